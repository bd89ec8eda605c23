'use strict';
// Rewrites a program so that it can be one of many in a lasting REPL scope.  Lines stay; columns too, mostly.
//
// - `import` and `export` become calls and plain declarations: evaluated code has no module loader.
// - `const` and `class` become `let`, which a later run may declare again as whatever it likes; an assignment to a
//   constant of the same program still throws.
// - A name that an earlier run declared in a way that V8 does not let this one repeat (`var` or `function`, then `let`)
//   is assigned instead of declared.

const HOOKS = 'globalThis[Symbol.for("era.hooks")]';
const OPTIONS = { ecmaVersion: 'latest', sourceType: 'script', allowAwaitOutsideFunction: true, allowImportExportEverywhere: true, allowHashBang: true };
const MENTIONS = /\b(?:import|export|let|const|var|class|function)\b/;

/** Calls `visit(node, inFunction)` for every node, parents first; a visit that returns false hides the children. */
function walk(node, visit, inFunction = false) {
  if (visit(node, inFunction) === false) return;
  const inside = inFunction || /Function|^StaticBlock$|^PropertyDefinition$/.test(node.type);
  for (const key of Object.keys(node)) {
    const value = node[key];
    if (Array.isArray(value)) {
      for (const child of value) if (child && typeof child.type === 'string') walk(child, visit, inside);
    } else if (value && typeof value.type === 'string') walk(value, visit, inside);
  }
}

/** Names that a binding pattern declares. */
function namesOf(pattern, out = []) {
  switch (pattern?.type) {
    case 'Identifier': out.push(pattern.name); break;
    case 'ObjectPattern': for (const p of pattern.properties) namesOf(p.type === 'RestElement' ? p.argument : p.value, out); break;
    case 'ArrayPattern': for (const p of pattern.elements) namesOf(p, out); break;
    case 'AssignmentPattern': namesOf(pattern.left, out); break;
    case 'RestElement': namesOf(pattern.argument, out); break;
  }
  return out;
}

/** How often each name is bound anywhere in the program: a constant bound once cannot be shadowed. */
function countBindings(tree) {
  const count = new Map();
  const add = (pattern) => { for (const name of namesOf(pattern)) count.set(name, (count.get(name) ?? 0) + 1); };
  walk(tree, (node) => {
    if (node.type === 'VariableDeclarator' || /^(?:Class|Function)/.test(node.type)) add(node.id);
    if (node.params) for (const param of node.params) add(param);
    if (node.type === 'CatchClause') add(node.param);
    if (/^Import(?:Default|Namespace)?Specifier$/.test(node.type)) add(node.local);
  });
  return count;
}

class Rewriter {
  constructor(code, tree, known) {
    this.code = code;
    this.tree = tree;
    this.known = known;
    this.edits = [];
    this.prefix = [];
    this.constants = new Set();
    this.declared = [];
  }

  text(node) { return this.code.slice(node.start, node.end); }

  edit(start, end, text) { this.edits.push({ start, end, text }); }

  /** Replaces a whole stretch, keeping its line breaks. */
  replace(start, end, text) {
    this.edit(start, end, text + '\n'.repeat((this.code.slice(start, end).match(/\n/g) ?? []).length));
  }

  /** True where `names` cannot be declared anew; those that do not exist yet are declared ahead of the program. */
  mustAssign(names, clashes) {
    if (!names.some(clashes)) {
      if (clashes === this.known.isFixed) this.declared.push(...names);
      return false;
    }
    const fresh = names.filter((name) => !this.known.isLexical(name) && !this.known.isFixed(name));
    if (fresh.length) this.prefix.push(`let ${fresh.join(',')};`);
    this.declared.push(...fresh);
    return true;
  }

  /** A top-level `let` or `const`. */
  lexical(node) {
    const names = node.declarations.flatMap((each) => namesOf(each.id));
    if (node.kind === 'const') for (const name of names) this.constants.add(name);
    if (this.mustAssign(names, this.known.isFixed)) this.assign(node, true);
    else if (node.kind === 'const') this.edit(node.start, node.start + 5, 'let  ');
  }

  /** Turns a declaration into assignments; one without a value resets the variable only if `resets`. */
  assign(node, resets) {
    // `void` keeps a line that starts with a parenthesis from continuing the one before it.
    const start = node.declarations[0].id.type === 'Identifier' ? '' : 'void ';
    this.edit(node.start, node.declarations[0].start, resets ? 'void (' : start);
    for (const each of node.declarations) {
      const pattern = each.id.type !== 'Identifier';
      if (pattern) this.edit(each.start, each.start, '(');
      if (each.init && pattern) this.edit(each.end, each.end, ')');
      if (!each.init && resets) this.edit(each.end, each.end, '=void 0');
    }
    if (resets) this.edit(node.declarations.at(-1).end, node.declarations.at(-1).end, ')');
  }

  /** A `var` outside functions: it belongs to the program wherever it stands. */
  variable(node, parent) {
    const names = node.declarations.flatMap((each) => namesOf(each.id));
    if (!this.mustAssign(names, this.known.isLexical)) return;
    const isHead = parent && /^For(?:In|Of)Statement$/.test(parent.type) && parent.left === node;
    if (isHead) this.edit(node.start, node.declarations[0].start, '');
    else this.assign(node, false);
  }

  classDeclaration(node) {
    const name = node.id.name;
    this.edit(node.start, node.start, this.mustAssign([name], this.known.isFixed) ? `${name}=` : `let ${name}=`);
    this.edit(node.end, node.end, ';');
  }

  functionDeclaration(node) {
    if (!this.known.isLexical(node.id.name)) return;
    this.edit(node.start, node.start, `void (${node.id.name}=`);
    this.edit(node.end, node.end, ');');
  }

  importDeclaration(node) {
    const given = (node.attributes ?? []).map((each) => `${this.text(each.key)}:${this.text(each.value)}`);
    const wanted = [];
    const names = [];
    let space = null;
    const plain = (key) => (key.type === 'Literal' ? this.text(key) : key.name);
    for (const each of node.specifiers) {
      names.push(each.local.name);
      if (each.type === 'ImportNamespaceSpecifier') space = each.local.name;
      else wanted.push([each.type === 'ImportDefaultSpecifier' ? 'default' : plain(each.imported), each.local.name]);
    }
    const list = JSON.stringify(wanted.map(([key]) => key.replace(/^['"]|['"]$/g, '')));
    const call = `await ${HOOKS}.load(${this.text(node.source)},{with:{${given}}},${list})`;
    const pattern = `{${wanted.map(([key, local]) => `${key}:${local}`)}}`;
    const assigned = this.mustAssign(names, this.known.isFixed);
    const targets = [...(space ? [space] : []), ...(wanted.length ? [pattern] : [])];
    let text = `${call};`;
    if (targets.length === 2) text = assigned ? `void (${pattern}=${space}=${call});` : `let ${space}=${call},${pattern}=${space};`;
    else if (targets.length) text = assigned ? `void (${targets[0]}=${call});` : `let ${targets[0]}=${call};`;
    this.replace(node.start, node.end, text);
  }

  exportDeclaration(node) {
    const inner = node.declaration;
    if (!inner) return this.replace(node.start, node.end, ';');
    this.edit(node.start, inner.start, '');
    if (/^(?:Class|Function)/.test(inner.type) && !inner.id) {
      this.edit(inner.start, inner.start, 'void (');
      return this.edit(inner.end, inner.end, ');');
    }
    return this.statement(inner);
  }

  statement(node) {
    switch (node.type) {
      case 'VariableDeclaration': if (node.kind !== 'var') this.lexical(node); break;
      case 'ClassDeclaration': this.classDeclaration(node); break;
      case 'FunctionDeclaration': this.functionDeclaration(node); break;
      case 'ImportDeclaration': this.importDeclaration(node); break;
      case 'ExportNamedDeclaration':
      case 'ExportDefaultDeclaration':
      case 'ExportAllDeclaration': this.exportDeclaration(node); break;
    }
  }

  /** What may stand anywhere: import(), import.meta, `var`, assignments to constants. */
  everywhere() {
    const count = countBindings(this.tree);
    const isConstant = (node) => node?.type === 'Identifier' && this.constants.has(node.name) && count.get(node.name) === 1;
    const parents = new Map();
    walk(this.tree, (node, inFunction) => {
      for (const key of ['left', 'init']) if (node[key]?.type === 'VariableDeclaration') parents.set(node[key], node);
      if (node.type === 'ImportExpression') this.edit(node.start, node.start + 6, `${HOOKS}.load`);
      else if (node.type === 'MetaProperty' && node.meta.name === 'import') this.edit(node.start, node.end, `${HOOKS}.meta`);
      else if (node.type === 'VariableDeclaration' && node.kind === 'var' && !inFunction) this.variable(node, parents.get(node));
      else if (isConstant(node.type === 'AssignmentExpression' ? node.left : node.type === 'UpdateExpression' ? node.argument : null)) {
        this.replace(node.start, node.end, `${HOOKS}.constant()`);
        return false;
      }
      return node.type !== 'ImportDeclaration';
    });
  }

  result() {
    for (const node of this.tree.body) this.statement(node);
    this.everywhere();
    this.edits.forEach((edit, order) => { edit.order = order; });
    this.edits.sort((a, b) => a.start - b.start || a.end - b.end || a.order - b.order);
    let out = '';
    let at = 0;
    for (const { start, end, text } of this.edits) {
      if (start < at) continue; // inside a stretch that was replaced
      out += this.code.slice(at, start) + text;
      at = end;
    }
    out += this.code.slice(at);
    const hashbang = /^#!.*\n?/.exec(out)?.[0] ?? '';
    return { code: hashbang + this.prefix.join('') + out.slice(hashbang.length), declared: this.declared };
  }
}

/**
 * The program to evaluate as `code`, and the names that it declares by let. `known.isLexical(name)` and `known.isFixed(name)` tell what earlier runs declared: by let, or
 * by var and function. A program that the parser refuses stays as it is: V8 says what is wrong with it.
 */
function rewrite(code, parse, known) {
  if (!parse || !MENTIONS.test(code)) return { code, declared: [] };
  let tree;
  try {
    tree = parse(code, OPTIONS);
  } catch {
    return { code, declared: [] };
  }
  return new Rewriter(code, tree, known).result();
}

module.exports = { rewrite };
