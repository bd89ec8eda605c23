'use strict';
// Takes and restores a session's variables: data, functions and classes of the program's own, imports by their names.
// What cannot come back exactly is told by name: closures, live objects, anything native.
const v8 = require('v8');
const { Encoder, Decoder } = require('./js_graph.cjs');

const CONTENT_BYTES = 40 << 20; // Source: a snapshot's frame is 64 MiB of base64

let base = new Set();
let wellKnown = new Map();

/** Remembers what the global scope holds before any program has run. */
function begin() {
  base = new Set(Reflect.ownKeys(globalThis));
  wellKnown = new Map();
  for (const key of base) {
    const value = typeof key === 'string' ? Object.getOwnPropertyDescriptor(globalThis, key)?.value : undefined;
    if (value !== null && (typeof value === 'object' || typeof value === 'function')) wellKnown.set(value, { from: 'global', key });
  }
  wellKnown.set(globalThis, { from: 'global', key: 'globalThis' });
}

/** Objects that a restored session gets anew: global ones, imported modules and what they export. */
function referencesOf(hooks) {
  const references = new Map(wellKnown);
  const put = (value, reference) => {
    if (value !== null && (typeof value === 'object' || typeof value === 'function') && !references.has(value)) references.set(value, reference);
  };
  for (const [module, origin] of hooks.imported) put(module, origin);
  for (const [module, origin] of hooks.imported) {
    for (const [key, property] of Object.entries(Object.getOwnPropertyDescriptors(module))) {
      if ('value' in property) put(property.value, { ...origin, key });
    }
  }
  return references;
}

/** Name, how it was declared, and value of every variable of the session. */
function variables(evaluator) {
  const found = [];
  for (const name of evaluator.lexicalNames()) {
    const peeked = evaluator.peek(name);
    if (peeked) found.push([name, 'let', peeked.value]); // one that never got its value is no variable yet
  }
  for (const name of Object.getOwnPropertyNames(globalThis)) {
    if (base.has(name)) continue;
    const property = Object.getOwnPropertyDescriptor(globalThis, name);
    if (property.enumerable && 'value' in property) found.push([name, property.configurable ? 'global' : 'var', property.value]);
  }
  return found;
}

/** Asks the inspector whether a function closes over nothing but the global scope. */
async function hasGlobalScope(evaluator, value) {
  evaluator.offered = value;
  const made = await evaluator.request('Runtime.evaluate', { expression: 'globalThis[Symbol.for("era.hooks")].offered()' });
  const own = await evaluator.request('Runtime.getProperties', { objectId: made.result.objectId, ownProperties: true });
  const scopes = own.internalProperties?.find((each) => each.name === '[[Scopes]]');
  if (!scopes) return false;
  const list = await evaluator.request('Runtime.getProperties', { objectId: scopes.value.objectId, ownProperties: true });
  return list.result.length > 0 && list.result.every((each) => /^(?:Script|Global)$/.test(each.value?.description ?? ''));
}

/** All variables as base64, and the names of those that are lost. */
async function take(evaluator, hooks, parse) {
  const references = referencesOf(hooks);
  const all = variables(evaluator);
  const verdicts = new Map();
  hooks.offered = () => evaluator.offered;
  for (;;) {
    const unknown = new Set();
    const isExact = (value) => {
      if (!verdicts.has(value)) unknown.add(value);
      return verdicts.get(value) ?? true;
    };
    const encoder = new Encoder(references, isExact, parse);
    const kept = [];
    const lost = [];
    for (const [name, kind, value] of all) {
      try {
        kept.push([name, kind, encoder.add(value)]);
      } catch {
        lost.push(name);
      }
    }
    if (unknown.size === 0) {
      const content = v8.serialize({ nodes: encoder.nodes, variables: kept });
      if (content.length > CONTENT_BYTES) throw new Error('the variables are too large');
      return { content: Buffer.from(content).toString('base64'), lost };
    }
    for (const value of unknown) verdicts.set(value, await hasGlobalScope(evaluator, value));
  }
}

/** Fetches the modules that references name; those that cannot be had stay undefined. */
async function fetchModules(nodes, hooks) {
  const modules = new Map();
  for (const node of nodes) {
    if (node.k !== 'ref' || node.from === 'global') continue;
    const id = `${node.from} ${node.specifier}`;
    if (modules.has(id)) continue;
    try {
      modules.set(id, node.from === 'import' ? await hooks.load(node.specifier) : globalThis.require(node.specifier));
    } catch {
      modules.set(id, undefined);
    }
  }
  return modules;
}

function resolver(modules) {
  return (node) => {
    if (node.from === 'global') return node.key === 'globalThis' ? globalThis : globalThis[node.key];
    const module = modules.get(`${node.from} ${node.specifier}`);
    const value = node.key === undefined ? module : module?.[node.key];
    if (value === undefined) throw new Error(`${node.specifier} is gone`);
    return value;
  };
}

function declare(evaluator, hooks, name, kind, value) {
  if (kind === 'global') {
    globalThis[name] = value;
    return true;
  }
  hooks.slot = value;
  evaluator.declare(`${kind} ${name}=globalThis[Symbol.for("era.hooks")].slot;`);
  hooks.slot = undefined;
  if (kind === 'let') evaluator.declared.add(name);
  return Object.is(evaluator.peek(name)?.value, value);
}

/** Puts the variables of a snapshot back; the names of those that could not be. */
async function restore(evaluator, hooks, content) {
  const { nodes, variables: kept } = v8.deserialize(Buffer.from(content, 'base64'));
  const decoder = new Decoder(nodes, resolver(await fetchModules(nodes, hooks)), (source) => {
    const peeked = evaluator.peek(source);
    if (!peeked) throw new Error('not yet');
    return peeked.value;
  });
  let left = kept;
  // A class needs its superclass first: what fails is tried again as long as something else succeeds.
  for (let before = -1; left.length && left.length !== before;) {
    before = left.length;
    left = left.filter(([name, kind, encoded]) => {
      try {
        return !declare(evaluator, hooks, name, kind, decoder.decode(encoded));
      } catch {
        return true;
      }
    });
  }
  return left.map(([name]) => name);
}

module.exports = { begin, take, restore };
