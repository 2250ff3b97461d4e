/**
 * The messages of aisandbox/v1/simulator_pool.proto and what they contain, in protobuf's binary format.
 *
 * Names are those of the .proto files. A uint64 is a BigInt, an int64 a number (shapes are small), bytes are a Uint8Array, an enum
 * is its number. A field that is not set has its default; a message that is not set is undefined.
 */

// Each field: its number and its type; [type] is repeated.
const MESSAGES = {
  AttachRequest: {register: [1, 'RegisterSimulator'], reply: [2, 'SimulatorReply'], session_ended: [3, 'SessionEnded']},
  AttachResponse: {
    registered: [1, 'SimulatorRegistered'], request: [2, 'SimulatorRequest'], session_ended: [3, 'SessionEnded'],
  },
  RegisterSimulator: {
    pool: [1, 'string'], instance: [2, 'string'], protocol_version: [3, 'uint32'], environments: [4, 'uint32'],
    spec: [5, 'EnvironmentSpec'], name: [6, 'string'], version: [7, 'string'],
  },
  SimulatorRegistered: {service_version: [1, 'string']},
  SessionEnded: {code: [1, 'uint32'], message: [2, 'string']},
  SimulatorRequest: {open: [1, 'OpenRequest'], reset: [2, 'ResetRequest'], step: [3, 'StepRequest']},
  SimulatorReply: {
    open: [1, 'OpenReply'], reset: [2, 'ResetReply'], step: [3, 'StepReply'], error: [4, 'SimulatorError'],
  },
  OpenRequest: {
    protocol_version: [1, 'uint32'], environments: [2, 'uint32'], options: [3, 'Struct'], run_id: [4, 'string'],
    evaluation: [5, 'bool'],
  },
  OpenReply: {spec: [1, 'EnvironmentSpec']},
  ResetRequest: {seeds: [1, ['uint64']]},
  ResetReply: {observations: [1, ['Tensor']], action_masks: [2, 'bytes']},
  StepRequest: {actions: [1, 'Tensor']},
  StepReply: {
    observations: [1, ['Tensor']], rewards: [2, 'bytes'], terminated: [3, 'bytes'], truncated: [4, 'bytes'],
    final_observations: [5, ['Tensor']], action_masks: [6, 'bytes'], episode_metrics: [7, ['EpisodeMetrics']],
  },
  EpisodeMetrics: {environment: [1, 'uint32'], values: [2, ['EpisodeMetric']]}, // a map is a list of keys and values
  EpisodeMetric: {key: [1, 'string'], value: [2, 'double']},
  SimulatorError: {code: [1, 'uint32'], message: [2, 'string']},
  EnvironmentSpec: {
    observation_space: [1, 'Space'], action_space: [2, 'Space'], action_masks: [3, 'bool'],
    max_episode_steps: [4, 'uint64'], metrics: [5, ['string']], seconds_per_step: [6, 'double'],
  },
  Space: {
    box: [1, 'Box'], discrete: [2, 'Discrete'], multi_discrete: [3, 'MultiDiscrete'], multi_binary: [4, 'MultiBinary'],
    dict: [5, 'DictSpace'],
  },
  Box: {
    dtype: [1, 'uint32'], shape: [2, ['int64']], low: [3, ['double']], high: [4, ['double']], names: [5, ['string']],
  },
  Discrete: {n: [1, 'int64'], start: [2, 'int64'], names: [3, ['string']]},
  MultiDiscrete: {n: [1, ['int64']], names: [2, ['string']]},
  MultiBinary: {n: [1, 'int64'], names: [2, ['string']]},
  DictSpace: {entries: [1, ['DictEntry']]},
  DictEntry: {key: [1, 'string'], space: [2, 'Space']},
  Tensor: {dtype: [1, 'uint32'], shape: [2, ['int64']], data: [3, 'bytes']},
  // google.protobuf.Struct, without the values null, struct and list
  Struct: {fields: [1, ['StructField']]},
  StructField: {key: [1, 'string'], value: [2, 'Value']},
  Value: {number_value: [2, 'optional double'], string_value: [3, 'optional string'], bool_value: [4, 'optional bool']},
};

const VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5;
const WIRE = {uint32: VARINT, uint64: VARINT, int64: VARINT, bool: VARINT, double: FIXED64, string: BYTES, bytes: BYTES};
const ZERO = {uint32: 0, uint64: 0n, int64: 0, bool: false, double: 0, string: '', bytes: new Uint8Array()};
const text = {encoder: new TextEncoder(), decoder: new TextDecoder('utf-8', {fatal: true})};

/** The bytes of a message of a type of this file. Throws for a name that the message has not. */
export function encode(type, message) {
  const out = [];
  for (const [name, value] of Object.entries(message)) {
    const field = MESSAGES[type][name];
    if (!field) throw new TypeError(`${type} has no field ${name}`);
    if (value === undefined) continue;
    const [number, declared] = field;
    const repeated = Array.isArray(declared), [optional, kind] = kindOf(repeated ? declared[0] : declared);
    const packed = repeated && kind in WIRE && WIRE[kind] !== BYTES;
    if (packed) {
      const elements = [];
      for (const element of value) writeScalar(elements, kind, element);
      if (elements.length) writeBytes(out, number, elements);
    } else if (kind in WIRE) {
      for (const element of repeated ? value : [value]) {
        if (!repeated && !optional && isZero(element)) continue;
        writeVarint(out, BigInt(number << 3 | WIRE[kind]));
        writeScalar(out, kind, element);
      }
    } else {
      for (const element of repeated ? value : [value]) writeBytes(out, number, encode(kind, element));
    }
  }
  return Uint8Array.from(out);
}

/** The message of a type of this file. Throws RangeError for bytes that are cut, and TypeError for what is no protobuf. */
export function decode(type, bytes) {
  const message = {};
  const fields = new Map();
  for (const [name, [number, declared]] of Object.entries(MESSAGES[type])) {
    const repeated = Array.isArray(declared), [optional, kind] = kindOf(repeated ? declared[0] : declared);
    fields.set(number, {name, repeated, kind});
    message[name] = repeated ? [] : optional ? undefined : ZERO[kind];
  }
  const reader = {bytes, view: new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), at: 0};
  while (reader.at < bytes.length) {
    const tag = Number(readVarint(reader)), wire = tag & 7, field = fields.get(tag >>> 3);
    if (!field) {
      readWire(reader, wire); // of a newer version of the contract
      continue;
    }
    const {name, repeated, kind} = field;
    if (repeated && wire === BYTES && WIRE[kind] !== BYTES && kind in WIRE) { // packed
      const end = readVarint(reader);
      for (const last = reader.at + Number(end); reader.at < last;) message[name].push(readScalar(reader, kind, WIRE[kind]));
      continue;
    }
    const value = kind in WIRE ? readScalar(reader, kind, wire) : decode(kind, readWire(reader, wire));
    if (repeated) message[name].push(value);
    else message[name] = value;
  }
  return message;
}

function kindOf(declared) {
  return declared.startsWith('optional ') ? [true, declared.slice(9)] : [false, declared];
}

function isZero(value) {
  return value === 0 || value === 0n || value === false || value.length === 0;
}

function writeVarint(out, value) {
  for (let rest = BigInt.asUintN(64, value); ; rest >>= 7n) { // a negative int64 has ten bytes
    if (rest < 128n) return out.push(Number(rest));
    out.push(Number(rest & 127n) | 128);
  }
}

function writeBytes(out, number, bytes) {
  writeVarint(out, BigInt(number << 3 | BYTES));
  writeVarint(out, BigInt(bytes.length));
  for (const byte of bytes) out.push(byte);
}

function writeScalar(out, kind, value) {
  if (kind === 'double') {
    out.push(...new Uint8Array(new Float64Array([value]).buffer)); // little-endian, as every browser's machine is
  } else if (WIRE[kind] === VARINT) {
    writeVarint(out, BigInt(value));
  } else {
    const bytes = kind === 'string' ? text.encoder.encode(value) : value;
    writeVarint(out, BigInt(bytes.length));
    for (const byte of bytes) out.push(byte);
  }
}

function readVarint(reader) {
  let value = 0n;
  for (let shift = 0n; shift < 70n; shift += 7n) {
    if (reader.at >= reader.bytes.length) throw new RangeError('the message is cut');
    const byte = reader.bytes[reader.at++];
    value |= BigInt(byte & 127) << shift;
    if (byte < 128) return BigInt.asUintN(64, value);
  }
  throw new TypeError('a varint of more than ten bytes');
}

/** What a field of the wire type contains: the bytes, or the number of a varint. */
function readWire(reader, wire) {
  if (wire === VARINT) return readVarint(reader);
  if (![FIXED64, BYTES, FIXED32].includes(wire)) throw new TypeError(`wire type ${wire}`);
  const length = wire === BYTES ? Number(readVarint(reader)) : wire === FIXED64 ? 8 : 4;
  if (reader.at + length > reader.bytes.length) throw new RangeError('the message is cut');
  reader.at += length;
  return reader.bytes.subarray(reader.at - length, reader.at);
}

function readScalar(reader, kind, wire) {
  if (wire !== WIRE[kind]) throw new TypeError(`a ${kind} with the wire type ${wire}`);
  const read = readWire(reader, wire);
  switch (kind) {
    case 'uint64': return read;
    case 'int64': return Number(BigInt.asIntN(64, read));
    case 'uint32': return Number(BigInt.asUintN(32, read));
    case 'bool': return read !== 0n;
    case 'double': return new DataView(read.buffer, read.byteOffset).getFloat64(0, true);
    case 'string': return text.decoder.decode(read);
    default: return read;
  }
}
