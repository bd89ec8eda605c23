'use strict';
// Turns values into a plain graph and back: what they share, cycles, functions by source, instances of the program's own
// classes.  What cannot come back exactly is refused (Lost), never approximated.
const buffers = require('buffer');
const { types } = require('util');

/** A value that cannot be kept exactly. */
class Lost extends Error {}

const BRANDS = [
  ['date', types.isDate, Date], ['regexp', types.isRegExp, RegExp], ['map', types.isMap, Map], ['set', types.isSet, Set],
  ['array', Array.isArray, Array], ['buffer', types.isArrayBuffer, ArrayBuffer], ['boxed', types.isBoxedPrimitive, null],
  ['view', ArrayBuffer.isView, null], ['error', types.isNativeError, null], ['url', (value) => value instanceof URL, URL],
];
const EXOTIC = ['isProxy', 'isPromise', 'isWeakMap', 'isWeakSet', 'isGeneratorObject', 'isExternal', 'isArgumentsObject',
  'isModuleNamespaceObject', 'isMapIterator', 'isSetIterator', 'isSharedArrayBuffer', 'isCryptoKey', 'isKeyObject'].filter((name) => types[name]);
const INTRINSIC = ['Object', 'Array', 'Map', 'Set', 'Date', 'RegExp', 'ArrayBuffer', 'DataView', 'URL', 'Buffer', 'Error', 'TypeError', 'RangeError',
  'SyntaxError', 'ReferenceError', 'EvalError', 'URIError', 'AggregateError', 'Number', 'String', 'Boolean', 'BigInt64Array', 'BigUint64Array',
  'Float32Array', 'Float64Array', 'Int8Array', 'Int16Array', 'Int32Array', 'Uint8Array', 'Uint8ClampedArray', 'Uint16Array', 'Uint32Array'];
const intrinsic = (name) => globalThis[name] ?? buffers[name]; // deno hides Buffer from some
const INTRINSICS = new Map(INTRINSIC.map((name) => [intrinsic(name).prototype, name]));
const OF_ERRORS = new Set(['message', 'stack', 'cause', 'errors']);
const sourceOf = Function.prototype.call.bind(Function.prototype.toString);

/** Everything of one snapshot. `references`: object → how to get it anew; `isExact(function)`: its scopes are global. */
class Encoder {
  constructor(references, isExact, parse) {
    Object.assign(this, { references, isExact, parse, nodes: [], index: new Map() });
  }

  /** The encoded value; on Lost everything that it added is taken back. */
  add(value) {
    const start = this.nodes.length;
    try {
      return this.encode(value);
    } catch (error) {
      this.nodes.length = start;
      for (const [key, number] of this.index) if (number >= start) this.index.delete(key);
      throw error;
    }
  }

  encode(value) {
    if (typeof value === 'symbol') throw new Lost('a symbol');
    if (value === null || (typeof value !== 'object' && typeof value !== 'function')) return value;
    if (!this.index.has(value)) {
      const node = {};
      this.index.set(value, this.nodes.push(node) - 1);
      Object.assign(node, this.describe(value));
    }
    return { r: this.index.get(value) };
  }

  describe(value) {
    const known = this.references.get(value);
    if (known) return { k: 'ref', ...known };
    if (EXOTIC.some((name) => types[name](value))) throw new Lost('a live object');
    if (typeof value === 'function') return this.describeFunction(value);
    const [kind] = BRANDS.find(([, is]) => is(value)) ?? ['object'];
    const node = { k: kind, ...this.content(kind, value) };
    Object.assign(node, this.prototype(value, kind));
    node.e = this.properties(value, kind);
    if (!Object.isExtensible(value)) node.f = Object.isFrozen(value) ? 'freeze' : Object.isSealed(value) ? 'seal' : 'preventExtensions';
    return node;
  }

  content(kind, value) {
    switch (kind) {
      case 'date': return { d: value.getTime() };
      case 'regexp': return { d: [value.source, value.flags, value.lastIndex] };
      case 'map': return { d: [...value].map(([key, each]) => [this.encode(key), this.encode(each)]) };
      case 'set': return { d: [...value].map((each) => this.encode(each)) };
      case 'array': return { d: value.length };
      case 'buffer': if (value.resizable) throw new Lost('a resizable buffer'); return { d: new Uint8Array(value).slice() };
      case 'view': return { d: [this.encode(value.buffer), value.byteOffset, value.length ?? value.byteLength] };
      case 'boxed': if (typeof value.valueOf() === 'symbol') throw new Lost('a symbol'); return { d: value.valueOf() };
      case 'url': return { d: value.href };
      default: return {};
    }
  }

  /** How to find the prototype: an intrinsic's name, or the class. */
  prototype(value) {
    const proto = Object.getPrototypeOf(value);
    if (proto === null) return { p: null };
    if (INTRINSICS.has(proto)) return { p: INTRINSICS.get(proto) };
    const made = Object.getOwnPropertyDescriptor(proto, 'constructor')?.value;
    if (typeof made !== 'function' || made.prototype !== proto) throw new Lost('an object of an unknown kind');
    for (let each = made; each !== Function.prototype; each = Object.getPrototypeOf(each)) {
      if (INTRINSICS.has(each.prototype)) break;
      if (this.references.get(each)?.key === 'EventEmitter' || each.name === 'EventEmitter') break;
      if (!this.isExact(each) || /#[\w$]/.test(sourceOf(each))) throw new Lost('an instance with hidden state');
    }
    return { c: this.encode(made) };
  }

  properties(value, kind) {
    const frozen = Object.isFrozen(value);
    const entries = [];
    for (const key of Reflect.ownKeys(value)) {
      if (kind === 'array' && key === 'length') continue;
      if (kind === 'regexp' && key === 'lastIndex') continue;
      if ((kind === 'view' || kind === 'boxed') && (/^\d+$/.test(String(key)) || key === 'length')) continue;
      if (typeof key === 'symbol') {
        if (kind === 'url' || kind === 'buffer') continue; // the runtime's own marks
        throw new Lost('a symbol key');
      }
      const property = Object.getOwnPropertyDescriptor(value, key);
      const ofError = kind === 'error' && OF_ERRORS.has(key);
      if (!('value' in property) && !ofError) throw new Lost('an accessor');
      if (!ofError && (!property.enumerable || (!frozen && !(property.writable && property.configurable)))) throw new Lost('a special property');
      entries.push([key, this.encode('value' in property ? property.value : value[key])]);
    }
    return entries;
  }

  describeFunction(value) {
    if (!this.isExact(value)) throw new Lost('a function with a scope of its own');
    const source = sourceOf(value);
    const form = this.form(source);
    const statics = [];
    for (const key of Reflect.ownKeys(value)) {
      if (['length', 'name', 'prototype', 'arguments', 'caller'].includes(key)) continue;
      const property = Object.getOwnPropertyDescriptor(value, key);
      if (typeof key !== 'symbol' && property.enumerable && 'value' in property && property.writable) statics.push([key, this.encode(property.value)]);
      else if (!source.startsWith('class')) throw new Lost('a special property');
    }
    const ownPrototype = !source.startsWith('class') && !types.isGeneratorFunction(value) && value.prototype;
    if (ownPrototype && Reflect.ownKeys(ownPrototype).some((key) => key !== 'constructor')) throw new Lost('a changed prototype');
    return { k: 'function', d: source, m: form, n: value.name, e: statics };
  }

  /** 'expression' or 'method': how the source reads. Lost where evaluating it again would do more than define it. */
  form(source) {
    let tree;
    let form = 'expression';
    const options = { ecmaVersion: 'latest', sourceType: 'script' };
    try {
      tree = this.parse(`(${source})`, options);
    } catch {
      form = 'method';
      try { tree = this.parse(`({${source}})`, options); } catch { throw new Lost('a function without a source'); }
    }
    const made = tree.body[0].expression;
    if (made.type === 'ClassExpression') this.checkClass(made);
    return form;
  }

  checkClass(node) {
    const isPlain = (value) => !value || value.type === 'Literal' || (value.type === 'ArrayExpression' && !value.elements.length)
      || (value.type === 'ObjectExpression' && !value.properties.length)
      || (value.type === 'NewExpression' && !value.arguments.length && /^(?:Map|Set)$/.test(value.callee.name));
    if (node.superClass && !/^(?:Identifier|MemberExpression)$/.test(node.superClass.type)) throw new Lost('a computed superclass');
    for (const member of node.body.body) {
      if (member.type === 'StaticBlock' || member.computed) throw new Lost('a class that runs code');
      if (member.static && member.type === 'PropertyDefinition' && (member.key.type === 'PrivateIdentifier' || !isPlain(member.value))) {
        throw new Lost('a class that runs code');
      }
    }
  }
}

/** Makes values from nodes. `resolve(node)` gives what a reference names, `evaluate(source)` a function. */
class Decoder {
  constructor(nodes, resolve, evaluate) {
    Object.assign(this, { nodes, resolve, evaluate, made: new Map() });
  }

  decode(encoded) {
    if (encoded === null || typeof encoded !== 'object') return encoded;
    const number = encoded.r;
    if (!this.made.has(number)) {
      const node = this.nodes[number];
      const value = this.shell(node, number);
      this.made.set(number, value);
      this.fill(value, node);
    }
    return this.made.get(number);
  }

  shell(node) {
    if (node.k === 'ref') return this.resolve(node);
    if (node.k === 'function') return this.makeFunction(node);
    const proto = node.c ? this.decode(node.c).prototype : node.p === null ? null : intrinsic(node.p).prototype;
    const value = this.bare(node, node.p);
    if (Object.getPrototypeOf(value) !== proto) Object.setPrototypeOf(value, proto);
    return value;
  }

  bare(node, name) {
    switch (node.k) {
      case 'date': return new Date(node.d);
      case 'regexp': { const value = new RegExp(node.d[0], node.d[1]); value.lastIndex = node.d[2]; return value; }
      case 'map': return new Map();
      case 'set': return new Set();
      case 'array': return new Array(node.d);
      case 'buffer': return new Uint8Array(node.d).slice().buffer;
      case 'view': {
        const [buffer, offset, length] = node.d;
        return new (globalThis[name === 'Buffer' ? 'Uint8Array' : name])(this.decode(buffer), offset, length);
      }
      case 'boxed': return Object(node.d);
      case 'error': return new Error();
      case 'url': return new URL(node.d);
      default: return {};
    }
  }

  makeFunction(node) {
    const value = node.m === 'method' ? Object.values(Object.getOwnPropertyDescriptors(this.evaluate(`({${node.d}})`)))[0].value : this.evaluate(`(${node.d})`);
    if (typeof value !== 'function') throw new Lost('a function that cannot be made again');
    if (value.name !== node.n && Object.getOwnPropertyDescriptor(value, 'name')?.configurable !== false) {
      Object.defineProperty(value, 'name', { value: node.n, configurable: true });
    }
    return value;
  }

  fill(value, node) {
    if (node.k === 'ref') return;
    if (node.k === 'map') for (const [key, each] of node.d) value.set(this.decode(key), this.decode(each));
    if (node.k === 'set') for (const each of node.d) value.add(this.decode(each));
    for (const [key, each] of node.e ?? []) {
      const enumerable = !(node.k === 'error' && OF_ERRORS.has(key));
      Object.defineProperty(value, key, { value: this.decode(each), enumerable, writable: true, configurable: true });
    }
    if (node.f) Object[node.f](value);
  }
}

module.exports = { Encoder, Decoder, Lost };
