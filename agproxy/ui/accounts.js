import {read} from './api.js';
import {count, el, seconds, set, span, sync} from './dom.js';

const LOOK = {ready: 'good', limited: 'warn', refused: 'bad', disabled: 'dim', waiting: 'dim', unknown: 'bad'};

export function accounts() {
  const cards = el('div', {class: 'grid cards'});
  const nothing = el('p', {class: 'card empty'}, 'There is no account: run agproxy accounts add, or set GEMINI_API_KEY.');
  const node = el('div', {class: 'stack'}, cards, nothing);

  function make(row) {
    const part = (tag, look) => el(tag, {class: look});
    const parts = {name: part('h2', ''), id: part('div', 'mono dim told'), state: part('span', 'pill'), facts: part('div', 'dim told'),
      limits: el('ul'), told: el('div', {class: 'told', role: 'status'})};
    const button = (text, action) => el('button', {type: 'button', onclick: (event) => change(row.id, action, parts, event.target)}, text);
    Object.assign(parts, {enable: button('Enable', 'enable'), disable: button('Disable', 'disable'), reset: button('Forget limits', 'reset'), test: button('Test', 'test')});
    const card = el('article', {class: 'card account'},
      el('div', {class: 'row between'}, parts.name, parts.state), parts.id, parts.facts, parts.limits, parts.told,
      el('div', {class: 'row buttons'}, parts.enable, parts.disable, parts.test, parts.reset));
    card.parts = parts;
    return card;
  }

  function update({parts}, row) {
    set(parts.name, row.label || row.id);
    set(parts.id, [row.label ? row.id : '', row.kind, row.email ?? '', row.source.join(' + '), row.project ?? ''].filter(Boolean).join(' · '));
    set(parts.state, row.state);
    parts.state.className = `pill ${LOOK[row.state] ?? ''}`;
    set(parts.facts, [`${row.in_flight} in flight`, `${count(row.served)} served`, `${count(row.failed)} failed`, `${count(row.tokens)} tokens`,
      row.first_byte_seconds === null ? '' : `first byte ${seconds(row.first_byte_seconds)}`, row.models.length ? `only ${row.models.join(', ')}` : '',
      row.disabled_reason ?? ''].filter(Boolean).join(' · '));
    sync(parts.limits, row.limits, (limit) => limit.model, (limit) => el('li', {}, el('div', {class: 'row between'}, el('b'), el('span', {class: 'mono'})), el('div', {class: 'dim told short', title: limit.message})),
      (line, limit) => {
        set(line.querySelector('b'), limit.model === '*' ? 'all models' : limit.model);
        set(line.querySelector('.mono'), span(limit.seconds));
        set(line.querySelector('.dim'), `${limit.cause}: ${limit.message}`);
      });
    parts.enable.hidden = row.is_enabled;
    parts.disable.hidden = !row.is_enabled;
    parts.enable.disabled = parts.disable.disabled = !row.is_changeable;
    parts.enable.title = parts.disable.title = row.why_not ?? '';
    parts.reset.disabled = !row.limits.length;
  }

  async function change(id, action, parts, button) {
    set(parts.told, action === 'test' ? 'One small call is under way…' : '…');
    parts.told.className = 'told dim';
    button.disabled = true;
    try {
      const done = await read(`accounts/${encodeURIComponent(id)}/${action}`, {body: {}});
      const isBad = action === 'test' && !done.ok;
      set(parts.told, action !== 'test' ? done.note ?? `done: ${action}` : isBad ? `${done.status ?? 'no answer'}: ${done.error}` : `works: ${done.model} answered in ${done.milliseconds} ms`);
      parts.told.className = `told ${isBad ? 'bad' : 'good'}`;
    } catch (error) {
      set(parts.told, error.message);
      parts.told.className = 'told bad';
    } finally {
      button.disabled = false;
    }
  }

  function show(now) {
    nothing.hidden = now.accounts.length > 0;
    sync(cards, now.accounts, (row) => row.id, make, update);
  }
  return {name: 'Accounts', node, show};
}
