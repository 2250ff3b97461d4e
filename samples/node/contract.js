/** The contract, read from the .proto files when the program starts. */

import {loadPackageDefinition} from '@grpc/grpc-js';
import {loadSync} from '@grpc/proto-loader';
import {fileURLToPath} from 'node:url';

/** The folder that has aisandbox/v1/*.proto. */
const PROTO = fileURLToPath(new URL('../../proto', import.meta.url));

export const definition = loadSync(['aisandbox/v1/environment.proto', 'aisandbox/v1/simulator_pool.proto'], {
  includeDirs: [PROTO],
  keepCase: true, // without it observation_space is observationSpace, and a misspelt field is dropped without a word
  longs: String, // without it uint64 is an object; Number loses the bits of a seed above 2^53
  enums: String, // without it 'DATA_TYPE_FLOAT32' is a number
  defaults: true, // without it a field with its default (0, "", []) is undefined
  oneofs: true, // adds request.request: the name of the field that is set
});

export const {EnvironmentService, SimulatorPoolService} = loadPackageDefinition(definition).aisandbox.v1;
