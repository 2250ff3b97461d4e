/** A simulator in Node.js: trainers dial it, or it dials the service (--attach) and joins a pool. */

import {parseArgs} from 'node:util';
import {attach} from './attach.js';
import {serve} from './server.js';

const {values: options} = parseArgs({
  options: {
    listen: {type: 'string', default: '127.0.0.1:50061'},
    capacity: {type: 'string', default: '64'},
    attach: {type: 'string'},
    pool: {type: 'string', default: 'cartpole'},
    instance: {type: 'string', default: `node-${process.pid}`},
    environments: {type: 'string', default: '8'},
  },
});

try {
  if (options.attach) {
    await attach(options.attach, options.pool, options.instance, Number(options.environments));
  } else {
    const port = await serve(options.listen, Number(options.capacity));
    console.log(`listening on ${options.listen.replace(/:\d+$/, '')}:${port}`);
  }
} catch (error) {
  console.error(`error: ${error.details ?? error.message}`);
  process.exitCode = 1;
}
