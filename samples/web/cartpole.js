/** A pole on a cart, to be kept upright by pushing the cart (Barto, Sutton, Anderson 1983). It knows no network. */

const GRAVITY = 9.8, CART_MASS = 1.0, POLE_MASS = 0.1, HALF_LENGTH = 0.5, FORCE = 10.0;
export const TAU = 0.02;
export const MAX_EPISODE_STEPS = 500;

/** A generator of numbers in [0, 1) with a seed of 64 bits: SplitMix64. Math.random() takes no seed. */
function randomNumbers(seed) {
  let state = BigInt.asUintN(64, seed);
  return () => {
    state = BigInt.asUintN(64, state + 0x9e3779b97f4a7c15n);
    let z = state;
    z = BigInt.asUintN(64, (z ^ (z >> 30n)) * 0xbf58476d1ce4e5b9n);
    z = BigInt.asUintN(64, (z ^ (z >> 27n)) * 0x94d049bb133111ebn);
    return Number((z ^ (z >> 31n)) >> 11n) / 2 ** 53;
  };
}

export class CartPole {
  constructor(gravity = GRAVITY) {
    this.gravity = gravity;
    this.seed(BigInt(Math.floor(Math.random() * 2 ** 53)));
  }

  /** Makes the episodes that follow reproducible. */
  seed(seed) {
    this.random = randomNumbers(seed);
  }

  /** Begins an episode. */
  reset() {
    this.state = Array.from({length: 4}, () => this.random() * 0.1 - 0.05); // position, speed, angle, turn
    this.steps = 0;
  }

  /** Pushes the cart, 0 to the left and 1 to the right, and says whether the episode is over, and how. */
  step(action) {
    const [x, speed, angle, turn] = this.state;
    const push = action === 0 ? -FORCE : FORCE;
    const sin = Math.sin(angle), cos = Math.cos(angle), mass = CART_MASS + POLE_MASS;
    const pushed = (push + POLE_MASS * HALF_LENGTH * turn * turn * sin) / mass;
    const turning = (this.gravity * sin - cos * pushed) / (HALF_LENGTH * (4 / 3 - POLE_MASS * cos * cos / mass));
    const speeding = pushed - POLE_MASS * HALF_LENGTH * turning * cos / mass;
    this.state = [x + TAU * speed, speed + TAU * speeding, angle + TAU * turn, turn + TAU * turning];
    this.steps += 1;
    return {
      terminated: Math.abs(this.state[0]) > 2.4 || Math.abs(this.state[2]) > 12 * Math.PI / 180,
      truncated: this.steps >= MAX_EPISODE_STEPS,
    };
  }
}
