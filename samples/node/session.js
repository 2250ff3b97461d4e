/** The environments of one training run, the same whether the trainer dialled or the simulator did. */

import {status} from '@grpc/grpc-js';
import {CartPole, MAX_EPISODE_STEPS, TAU} from './cartpole.js';

export const PROTOCOL_VERSION = 1;
const OBSERVED = ['position', 'speed', 'angle', 'turn'];

// The names of the .proto files, which need keepCase; see contract.js.
export const spec = {
  observation_space: {box: {dtype: 'DATA_TYPE_FLOAT32', shape: [OBSERVED.length], names: OBSERVED}},
  action_space: {discrete: {n: 2, names: ['left', 'right']}},
  max_episode_steps: MAX_EPISODE_STEPS,
  seconds_per_step: TAU,
};

/** A status of gRPC, which ends the session. */
export class SessionError extends Error {
  constructor(code, details) {
    super(details);
    Object.assign(this, {code, details});
  }
}

export class Session {
  /** Answers the first request of a session; throws a SessionError. */
  constructor(request) {
    const open = request.open;
    if (!open) throw new SessionError(status.INVALID_ARGUMENT, 'the first request must be open');
    if (open.protocol_version !== PROTOCOL_VERSION) {
      throw new SessionError(status.FAILED_PRECONDITION,
        `open.protocol_version: this simulator speaks ${PROTOCOL_VERSION}, the client ${open.protocol_version}`);
    }
    if (open.environments < 1) throw new SessionError(status.INVALID_ARGUMENT, 'open.environments: must be at least 1');
    const gravity = gravityOf(open.options);
    this.environments = Array.from({length: open.environments}, () => new CartPole(gravity));
    this.started = false;
  }

  /** The reply to a request. A wrong one gets an error and changes nothing. */
  answer(request) {
    if (request.reset) return this.#reset(request.reset.seeds);
    if (request.step) return this.#step(request.step.actions);
    if (request.open) return refused('OUT_OF_ORDER', 'open: the session is open already');
    return refused('INVALID_ARGUMENT', 'the request is empty');
  }

  #reset(seeds) {
    if (seeds.length !== 0 && seeds.length !== this.environments.length) {
      return refused('INVALID_ARGUMENT', `reset.seeds: ${seeds.length} for ${this.environments.length} environments`);
    }
    this.environments.forEach((environment, i) => {
      if (seeds.length) environment.seed(BigInt(seeds[i])); // text: a number would lose the bits above 2^53
      environment.reset();
    });
    this.started = true;
    return {reset: {observations: [float32(this.environments.map(({state}) => state))]}};
  }

  #step(tensor) {
    const n = this.environments.length;
    if (!this.started) return refused('OUT_OF_ORDER', 'step: reset comes before the first step');
    const actions = discreteActions(tensor, n);
    if (!actions) return refused('INVALID_ARGUMENT', `step.actions: must be int64 [${n}], each 0 or 1`);
    const rewards = new Float32Array(n).fill(1), terminated = Buffer.alloc(n), truncated = Buffer.alloc(n), final = [];
    this.environments.forEach((environment, i) => {
      const end = environment.step(actions[i]);
      if (!end.terminated && !end.truncated) return;
      terminated[i] = Number(end.terminated);
      truncated[i] = Number(end.truncated);
      final.push(environment.state); // the last observation of the old episode
      environment.reset(); // before the next one begins
    });
    return {
      step: {
        observations: [float32(this.environments.map(({state}) => state))],
        rewards: bytes(rewards),
        terminated,
        truncated,
        final_observations: final.length ? [float32(final)] : [],
      },
    };
  }
}

/**
 * The only option. proto-loader gives a Struct as its fields, not as an object, and with camelCase whatever keepCase says,
 * because protobufjs brings google/protobuf/struct.proto along. An unknown key must not be ignored.
 */
function gravityOf(options) {
  let gravity;
  for (const [key, value] of Object.entries(options?.fields ?? {})) {
    if (key !== 'gravity') {
      throw new SessionError(status.INVALID_ARGUMENT, `open.options: "${key}" is unknown; there is: gravity`);
    }
    gravity = value.numberValue;
    if (value.kind !== 'numberValue' || !Number.isFinite(gravity) || gravity <= 0) {
      throw new SessionError(status.INVALID_ARGUMENT, 'open.options.gravity: must be a number above 0');
    }
  }
  return gravity;
}

function discreteActions(tensor, n) {
  if (tensor?.dtype !== 'DATA_TYPE_INT64' || tensor.shape.length !== 1 || Number(tensor.shape[0]) !== n) return null;
  if (tensor.data.length !== 8 * n) return null;
  const actions = Array.from({length: n}, (_, i) => Number(tensor.data.readBigInt64LE(8 * i)));
  return actions.every((action) => action === 0 || action === 1) ? actions : null;
}

/** A batch: one row for each environment. */
function float32(rows) {
  return {dtype: 'DATA_TYPE_FLOAT32', shape: [rows.length, OBSERVED.length], data: bytes(Float32Array.from(rows.flat()))};
}

/** The elements as they are in memory: little-endian on every machine that Node.js supports but s390x. */
function bytes(array) {
  return Buffer.from(array.buffer, array.byteOffset, array.byteLength);
}

function refused(code, message) {
  return {error: {code: `SIMULATOR_ERROR_CODE_${code}`, message}};
}
