/** A simulator that dials the service by a WebSocket: each binary frame is one message of simulator_pool.proto. */

import {CartPole, MAX_EPISODE_STEPS, TAU} from './cartpole.js';
import {decode, encode} from './messages.js';

const PROTOCOL_VERSION = 1;
const FLOAT32 = 1, INT64 = 7; // DataType
const OUT_OF_ORDER = 1, INVALID_ARGUMENT = 2; // SimulatorErrorCode
export const STATUS = {INVALID_ARGUMENT: 3, FAILED_PRECONDITION: 9, INTERNAL: 13}; // google.rpc.Code
// What the service says to no purpose twice: INVALID_ARGUMENT, PERMISSION_DENIED, FAILED_PRECONDITION, UNIMPLEMENTED, UNAUTHENTICATED.
const NOT_TO_BE_RETRIED = [3, 7, 9, 12, 16];
const OBSERVED = ['position', 'speed', 'angle', 'turn'];

export const spec = {
  observation_space: {box: {dtype: FLOAT32, shape: [OBSERVED.length], names: OBSERVED}},
  action_space: {discrete: {n: 2, names: ['left', 'right']}},
  max_episode_steps: MAX_EPISODE_STEPS,
  seconds_per_step: TAU,
};

/** A status of gRPC, with which a session ends. */
export class SessionError extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

/** The environments of one session. onEpisode is called with the number of steps of each episode that ended. */
export class Session {
  /** Answers the first request of a session; throws a SessionError. */
  constructor(request, onEpisode = () => {}) {
    const open = request.open;
    if (!open) throw new SessionError(STATUS.INVALID_ARGUMENT, 'the first request must be open');
    if (open.protocol_version !== PROTOCOL_VERSION) {
      throw new SessionError(STATUS.FAILED_PRECONDITION,
        `open.protocol_version: this simulator speaks ${PROTOCOL_VERSION}, the client ${open.protocol_version}`);
    }
    if (open.environments < 1) throw new SessionError(STATUS.INVALID_ARGUMENT, 'open.environments: must be at least 1');
    const gravity = gravityOf(open.options);
    this.runId = open.run_id;
    this.evaluation = open.evaluation;
    this.environments = Array.from({length: open.environments}, () => new CartPole(gravity));
    this.started = false;
    this.onEpisode = onEpisode;
  }

  /** The reply to a request. A wrong one gets an error and changes nothing. */
  answer(request) {
    if (request.reset) return this.#reset(request.reset.seeds);
    if (request.step) return this.#step(request.step.actions);
    if (request.open) return refused(OUT_OF_ORDER, 'open: the session is open already');
    return refused(INVALID_ARGUMENT, 'the request is empty');
  }

  #reset(seeds) {
    if (seeds.length !== 0 && seeds.length !== this.environments.length) {
      return refused(INVALID_ARGUMENT, `reset.seeds: ${seeds.length} for ${this.environments.length} environments`);
    }
    this.environments.forEach((environment, i) => {
      if (seeds.length) environment.seed(seeds[i]);
      environment.reset();
    });
    this.started = true;
    return {reset: {observations: [float32(this.environments.map(({state}) => state))]}};
  }

  #step(tensor) {
    const n = this.environments.length;
    if (!this.started) return refused(OUT_OF_ORDER, 'step: reset comes before the first step');
    const actions = discreteActions(tensor, n);
    if (!actions) return refused(INVALID_ARGUMENT, `step.actions: must be int64 [${n}], each 0 or 1`);
    const terminated = new Uint8Array(n), truncated = new Uint8Array(n), final = [];
    this.environments.forEach((environment, i) => {
      const end = environment.step(actions[i]);
      if (!end.terminated && !end.truncated) return;
      terminated[i] = Number(end.terminated);
      truncated[i] = Number(end.truncated);
      final.push(environment.state); // the last observation of the old episode
      this.onEpisode(environment.steps);
      environment.reset(); // before the next one begins
    });
    return {
      step: {
        observations: [float32(this.environments.map(({state}) => state))],
        rewards: bytes(new Float32Array(n).fill(1)),
        terminated,
        truncated,
        final_observations: final.length ? [float32(final)] : [],
      },
    };
  }
}

/** The only option. An unknown key must not be ignored. */
function gravityOf(options) {
  let gravity;
  for (const {key, value} of options?.fields ?? []) {
    if (key !== 'gravity') {
      throw new SessionError(STATUS.INVALID_ARGUMENT, `open.options: "${key}" is unknown; there is: gravity`);
    }
    gravity = value?.number_value;
    if (!Number.isFinite(gravity) || gravity <= 0) {
      throw new SessionError(STATUS.INVALID_ARGUMENT, 'open.options.gravity: must be a number above 0');
    }
  }
  return gravity;
}

function discreteActions(tensor, n) {
  if (tensor?.dtype !== INT64 || tensor.shape.length !== 1 || tensor.shape[0] !== n || tensor.data.length !== 8 * n) return null;
  const view = new DataView(tensor.data.buffer, tensor.data.byteOffset);
  const actions = Array.from({length: n}, (_, i) => Number(view.getBigInt64(8 * i, true)));
  return actions.every((action) => action === 0 || action === 1) ? actions : null;
}

/** A batch: one row for each environment. */
function float32(rows) {
  return {dtype: FLOAT32, shape: [rows.length, OBSERVED.length], data: bytes(Float32Array.from(rows.flat()))};
}

function bytes(array) {
  return new Uint8Array(array.buffer);
}

function refused(code, message) {
  return {error: {code, message}};
}

/** A place in a pool, which attaches again when its connection was lost, until close() or until the service refuses it. */
export class Place {
  /**
   * service is "ws://127.0.0.1:8080". on has functions: status(text, attached), session(Session or null), step() after each
   * reply to a step, and episode(steps).
   */
  constructor({service, pool, instance, environments, on, socket = (url) => new WebSocket(url)}) {
    this.url = `${service.replace(/\/$/, '')}/v1/simulators/${encodeURIComponent(pool)}`;
    this.register = {
      pool, instance, environments, spec, protocol_version: PROTOCOL_VERSION, name: 'CartPole', version: 'web',
    };
    this.on = on;
    this.newSocket = socket;
    this.seconds = 1;
    this.#connect();
  }

  /** Leaves the pool. */
  close() {
    this.closed = true;
    clearTimeout(this.timer);
    this.socket.close(1000);
  }

  #connect() {
    const socket = this.socket = this.newSocket(this.url);
    socket.binaryType = 'arraybuffer';
    this.#setSession(null);
    this.said = false; // this side has ended the session and waits for the service's word
    socket.onopen = () => this.#send({register: this.register});
    socket.onmessage = ({data}) => {
      let response;
      try {
        response = decode('AttachResponse', new Uint8Array(data));
      } catch (error) {
        return socket.close(4000 + STATUS.INVALID_ARGUMENT, `not a message of this contract: ${error.message}`);
      }
      this.#receive(response);
    };
    socket.onclose = ({code, reason}) => this.#lost(code, reason);
  }

  #send(message) {
    if (this.socket.readyState === 1) this.socket.send(encode('AttachRequest', message)); // else onclose follows
  }

  #receive(response) {
    if (response.registered) {
      this.seconds = 1;
      this.on.status(`attached to pool ${this.register.pool} as ${this.register.instance}`, true);
    } else if (response.session_ended) {
      if (!this.said) this.#send({session_ended: {}});
      this.said = false;
      this.#setSession(null);
    } else if (response.request && !this.said) { // otherwise the request was on its way
      this.#answer(response.request);
    }
  }

  #answer(request) {
    try {
      if (this.session) {
        const reply = this.session.answer(request);
        this.#send({reply});
        if (reply.step) this.on.step();
      } else {
        this.#setSession(new Session(request, this.on.episode));
        this.#send({reply: {open: {spec}}});
      }
    } catch (error) {
      this.said = true;
      this.#send({session_ended: {code: error.code ?? STATUS.INTERNAL, message: error.message}});
      this.#setSession(null);
    }
  }

  #setSession(session) {
    this.session = session;
    this.on.session(session);
  }

  #lost(code, reason) {
    this.#setSession(null);
    if (this.closed) return this.on.status('not attached', false);
    const why = reason || (code === 1006 ? 'no connection' : `closed (${code})`);
    if (NOT_TO_BE_RETRIED.includes(code - 4000)) {
      this.closed = true;
      return this.on.status(`refused: ${why}`, false);
    }
    this.on.status(`${why}; attaching again in ${this.seconds} s`, false);
    this.timer = setTimeout(() => this.#connect(), 1000 * this.seconds);
    this.seconds = Math.min(2 * this.seconds, 30);
  }
}
