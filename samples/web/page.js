/** The page: what its forms do, and what is drawn. Fields may be preset: index.html?service=…&pool=…&environments=…&attach */

import {CartPole, MAX_EPISODE_STEPS, TAU} from './cartpole.js';
import {Place} from './simulator.js';

const element = (id) => document.getElementById(id);
const {train, drive} = document.forms;
const chosen = new URLSearchParams(location.search);
const trained = {place: null, session: null, steps: 0, episodes: []};
const driven = {world: null, run: 0};

// --- train ---

train.service.value = chosen.get('service') ?? 'http://127.0.0.1:8080';
train.pool.value = chosen.get('pool') ?? 'browser';
train.environments.value = chosen.get('environments') ?? 8;
drive.run.value = chosen.get('run') ?? '';

const on = {
  status(text, attached) {
    element('status').value = text;
    if (trained.place?.closed) { // left, or refused
      trained.place = null;
      element('attach').textContent = 'Attach';
    }
    element('command').value = attached ? `Now start a training: aisandbox train ppo --pool ${train.pool.value}` : '';
  },
  session(session) {
    trained.session = session;
    if (!session?.runId) return;
    drive.run.value = session.runId;
    element('command').value = `${session.evaluation ? 'evaluates' : 'trains'} ${session.runId}`;
  },
  step() {
    trained.steps += trained.session.environments.length;
  },
  episode(steps) {
    trained.episodes.push(steps);
  },
};

train.addEventListener('submit', (event) => {
  event.preventDefault();
  if (trained.place) return trained.place.close();
  try {
    trained.place = new Place({
      service: train.service.value.replace(/^http/, 'ws'), pool: train.pool.value, on,
      instance: `page-${crypto.getRandomValues(new Uint32Array(1))[0].toString(36)}`,
      environments: Number(train.environments.value),
    });
    element('attach').textContent = 'Detach';
  } catch (error) { // the address is none
    element('status').value = error.message;
  }
});

// --- drive ---

/** The action of the policy for an observation. Throws with the service's sentence. */
async function act(observation) {
  const url = `${train.service.value.replace(/\/$/, '')}/v1/runs/${encodeURIComponent(drive.run.value.trim())}/act`;
  const body = JSON.stringify({observation, model: drive.model.value});
  const response = await fetch(url, {method: 'POST', headers: {'Content-Type': 'application/json'}, body});
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.message);
  return answer.action[0];
}

/** Drives episode after episode at the pace of the world, until another run of this function begins. */
async function play() {
  const run = ++driven.run;
  const world = driven.world = new CartPole();
  world.reset();
  try {
    for (let next = performance.now(); run === driven.run; next = Math.max(next + 1000 * TAU, performance.now())) {
      const end = world.step(await act(world.state));
      element('driven').value = `${world.steps} steps`;
      if (end.terminated || end.truncated) {
        element('driven').value = `the episode ended after ${world.steps} of ${MAX_EPISODE_STEPS} steps`;
        await new Promise((resolve) => setTimeout(resolve, 1000));
        world.reset();
      }
      await new Promise((resolve) => setTimeout(resolve, next - performance.now()));
    }
  } catch (error) {
    element('driven').value = `cannot drive: ${error.message}`;
  }
  if (run === driven.run) stop();
}

function stop() {
  driven.run++;
  driven.world = null;
  element('play').textContent = 'Drive';
}

drive.addEventListener('submit', (event) => {
  event.preventDefault();
  if (driven.world) return stop();
  element('play').textContent = 'Stop';
  play();
});

element('world').addEventListener('click', ({offsetX, target}) => {
  if (driven.world) driven.world.state[1] += offsetX < target.clientWidth / 2 ? 0.5 : -0.5;
});

// --- draw ---

/** Draws a cart-pole into a rectangle; 2.4 m to either side of the middle. */
function drawWorld(context, [position, , angle], left, top, width, height) {
  const scale = Math.min(width / 5.4, height / 1.6), ground = top + height * 0.8, x = left + width / 2 + position * scale;
  context.strokeStyle = '#8888';
  context.lineWidth = 1;
  context.beginPath();
  context.moveTo(left + width / 2 - 2.4 * scale, ground);
  context.lineTo(left + width / 2 + 2.4 * scale, ground);
  context.stroke();
  context.fillStyle = '#3b82f6';
  context.fillRect(x - 0.25 * scale, ground - 0.2 * scale, 0.5 * scale, 0.2 * scale);
  context.strokeStyle = '#e08a2e';
  context.lineWidth = Math.max(2, 0.08 * scale);
  context.beginPath();
  context.moveTo(x, ground - 0.2 * scale);
  context.lineTo(x + Math.sin(angle) * scale, ground - 0.2 * scale - Math.cos(angle) * scale);
  context.stroke();
}

/** The steps of each episode, the last 600, each as a dot. */
function drawEpisodes(context, episodes, width, height) {
  context.fillStyle = '#3b82f6';
  episodes.slice(-600).forEach((steps, i) => {
    context.fillRect(i * width / 600, height - 4 - (height - 4) * steps / MAX_EPISODE_STEPS, 3, 3);
  });
}

function cleared(id) {
  const canvas = element(id), context = canvas.getContext('2d');
  context.clearRect(0, 0, canvas.width, canvas.height);
  return [context, canvas.width, canvas.height];
}

function draw() {
  const worlds = trained.session?.started ? trained.session.environments : [];
  const columns = Math.min(4, worlds.length), rows = Math.ceil(worlds.length / columns);
  const [context, width, height] = cleared('worlds');
  worlds.forEach(({state}, i) => {
    const column = i % columns, row = Math.floor(i / columns);
    drawWorld(context, state, column * width / columns, row * height / rows, width / columns, height / rows);
  });
  const [plot, ...size] = cleared('episodes');
  drawEpisodes(plot, trained.episodes, ...size);
  const [single, ...whole] = cleared('world');
  if (driven.world) drawWorld(single, driven.world.state, 0, 0, ...whole);
  if (trained.steps) {
    const last = trained.episodes.slice(-20), mean = last.reduce((sum, steps) => sum + steps, 0) / last.length;
    element('progress').value = `${trained.steps.toLocaleString('en')} steps, ${trained.episodes.length} episodes` +
      (last.length ? `, the last ${last.length} with ${mean.toFixed(0)} steps on average` : '');
  }
  requestAnimationFrame(draw);
}

draw();
if (chosen.has('attach')) train.requestSubmit();
