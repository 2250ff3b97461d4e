package main

import (
	"math"
	"math/rand/v2"
)

const (
	cartMass, poleMass, halfLength = 1.0, 0.1, 0.5
	force, tau                     = 10.0, 0.02
	maxEpisodeSteps                = 500
)

// CartPole is a pole on a cart, to be kept upright by pushing the cart (Barto, Sutton, Anderson 1983). It knows no network.
type CartPole struct {
	state   [4]float64 // position, speed, angle, turn
	steps   int
	gravity float64
	random  *rand.Rand
}

func newCartPole(gravity float64) *CartPole {
	return &CartPole{gravity: gravity, random: rand.New(rand.NewPCG(rand.Uint64(), 0))}
}

// Seed makes the episodes that follow reproducible.
func (c *CartPole) Seed(seed uint64) { c.random = rand.New(rand.NewPCG(seed, 0)) }

// Reset begins an episode.
func (c *CartPole) Reset() {
	for i := range c.state {
		c.state[i] = c.random.Float64()*0.1 - 0.05
	}
	c.steps = 0
}

// Step pushes the cart, 0 to the left and 1 to the right, and says whether the episode is over, and how.
func (c *CartPole) Step(action int64) (terminated, truncated bool) {
	push := force
	if action == 0 {
		push = -force
	}
	x, speed, angle, turn := c.state[0], c.state[1], c.state[2], c.state[3]
	sin, cos := math.Sincos(angle)
	mass := cartMass + poleMass
	pushed := (push + poleMass*halfLength*turn*turn*sin) / mass
	turning := (c.gravity*sin - cos*pushed) / (halfLength * (4.0/3 - poleMass*cos*cos/mass))
	speeding := pushed - poleMass*halfLength*turning*cos/mass
	c.state = [4]float64{x + tau*speed, speed + tau*speeding, angle + tau*turn, turn + tau*turning}
	c.steps++
	fallen := math.Abs(c.state[0]) > 2.4 || math.Abs(c.state[2]) > 12*math.Pi/180
	return fallen, c.steps >= maxEpisodeSteps
}
