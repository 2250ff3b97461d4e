/** The simulator that trainers dial. */

import {Server, ServerCredentials, status} from '@grpc/grpc-js';
import {ReflectionService} from '@grpc/reflection';
import {definition, EnvironmentService} from './contract.js';
import {PROTOCOL_VERSION, Session, spec} from './session.js';

/** Listens on address; returns the port. */
export function serve(address, capacity) {
  let inUse = 0;

  function describe(call, callback) {
    callback(null, {
      protocol_version: PROTOCOL_VERSION, name: 'CartPole', version: 'node', spec, capacity, in_use: inUse,
    });
  }

  /** One stream is one session. */
  function session(stream) {
    let opened = null, taken = 0;
    const free = () => {
      inUse -= taken;
      taken = 0;
    };
    stream.on('data', (request) => {
      try {
        if (opened) return stream.write(opened.answer(request));
        const wanted = request.open?.environments ?? 0;
        if (inUse + wanted > capacity) { // before the environments are made
          return stream.emit('error', {
            code: status.RESOURCE_EXHAUSTED, details: `${wanted} environments asked for, ${inUse} of ${capacity} in use`,
          });
        }
        opened = new Session(request);
        inUse += taken = wanted;
        stream.write({open: {spec}});
      } catch (error) {
        free();
        stream.emit('error', {code: error.code ?? status.INTERNAL, details: error.details ?? String(error)});
      }
    });
    stream.on('end', () => { // the trainer has half-closed
      free();
      stream.end();
    });
    stream.on('cancelled', free);
    stream.on('error', free);
  }

  // A trainer that was lost holds its environments until the server pings it, which is off by default.
  const server = new Server({'grpc.keepalive_time_ms': 60_000, 'grpc.keepalive_timeout_ms': 20_000});
  server.addService(EnvironmentService.service, {describe, session});
  new ReflectionService(definition).addToServer(server); // for grpcurl
  process.once('SIGTERM', () => server.forceShutdown()); // ends the sessions at once
  return new Promise((resolve, reject) => {
    server.bindAsync(address, ServerCredentials.createInsecure(), (error, port) => error ? reject(error) : resolve(port));
  });
}
