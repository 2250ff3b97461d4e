/** The simulator that dials the service and joins a pool. */

import {credentials, status} from '@grpc/grpc-js';
import {setTimeout as sleep} from 'node:timers/promises';
import {SimulatorPoolService} from './contract.js';
import {PROTOCOL_VERSION, Session, spec} from './session.js';

const NOT_TO_BE_RETRIED = new Set([
  status.INVALID_ARGUMENT, status.FAILED_PRECONDITION, status.UNAUTHENTICATED, status.PERMISSION_DENIED, status.UNIMPLEMENTED,
]);

/** Serves session after session; throws the error with which the service refuses the simulator. */
export async function attach(address, pool, instance, environments) {
  // A NAT forgets a silent connection, and a place waits for hours.
  const pings = {'grpc.keepalive_time_ms': 30_000, 'grpc.keepalive_timeout_ms': 20_000};
  const client = new SimulatorPoolService(address, credentials.createInsecure(), pings);
  const register = {
    pool, instance, environments, spec, protocol_version: PROTOCOL_VERSION, name: 'CartPole', version: 'node',
  };
  for (let seconds = 1; ; seconds = Math.min(2 * seconds, 30)) {
    const {registered, error} = await serveStream(client, register);
    if (NOT_TO_BE_RETRIED.has(error?.code)) throw error;
    if (registered) seconds = 1;
    console.log(`attaching again in ${seconds} s: ${error?.details ?? 'the service has ended the stream'}`);
    await sleep(1000 * seconds);
  }
}

/** One place in the pool: whether the simulator got it, and why the stream ended. */
function serveStream(client, register) {
  return new Promise((resolve) => {
    const stream = client.attach();
    let registered = false;
    let session = null;
    let said = false; // this side has ended the session and waits for the service's word
    stream.on('data', (response) => {
      if (response.registered) {
        registered = true;
        console.log(`attached to pool ${register.pool} as ${register.instance}`);
      } else if (response.session_ended) {
        if (!said) stream.write({session_ended: {}});
        session = null;
        said = false;
      } else if (!said) { // otherwise the request was on its way
        try {
          if (session) return stream.write({reply: session.answer(response.request)});
          session = new Session(response.request);
          stream.write({reply: {open: {spec}}});
        } catch (error) {
          said = true;
          stream.write({session_ended: {code: error.code ?? status.INTERNAL, message: error.details ?? String(error)}});
        }
      }
    });
    stream.on('error', (error) => resolve({registered, error}));
    stream.on('end', () => resolve({registered}));
    stream.write({register});
  });
}
