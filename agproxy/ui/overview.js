import {chart, clock, count, el, seconds, set, statusClass, sync, table} from './dom.js';
import {nameOf, openRequest} from './requests.js';

const figure = (name) => {
  const value = el('b', {}, '–'), note = el('span');
  return {node: el('div', {class: 'card figure'}, el('span', {}, name), value, note), value, note};
};

export function overview() {
  const flight = figure('In flight'), rate = figure('Requests a minute'), tokens = figure('Tokens a minute');
  const latency = figure('Latency, median'), errors = figure('Errors a minute'), cached = figure('Cached input');
  const requests = chart('Requests', [{name: 'all', class: 'one', fill: true}, {name: 'errors', class: 'fault'}], (n) => count(n ?? 0));
  const times = chart('Latency', [{name: 'median', class: 'one'}, {name: '95%', class: 'two'}], seconds);
  const traffic = chart('Tokens', [{name: 'out', class: 'one', fill: true}, {name: 'in', class: 'two'}], (n) => count(n ?? 0));
  const running = table(['Request', 'Model', 'Account', {text: 'For', class: 'number'}], 'Requests in flight');
  const faults = table(['When', 'Status', 'What'], 'Latest errors');
  const quiet = el('p', {class: 'empty'}, 'Nothing is under way.'), fine = el('p', {class: 'empty'}, 'No request has failed.');
  const node = el('div', {class: 'stack'},
    el('div', {class: 'grid figures'}, [flight, rate, errors, latency, tokens, cached].map((one) => one.node)),
    el('div', {class: 'grid charts'}, requests.node, times.node, traffic.node),
    el('div', {class: 'grid halves'},
      el('section', {class: 'card'}, el('h2', {}, 'In flight'), running.node, quiet),
      el('section', {class: 'card'}, el('h2', {}, 'Latest errors'), faults.node, fine)));

  function show(now) {
    const minute = now.per_minute, recent = now.recent;
    set(flight.value, count(now.in_flight));
    set(flight.note, now.workers > 1 ? `in ${now.workers} processes` : 'one process');
    set(rate.value, count(minute.requests));
    set(rate.note, `${count(now.requests)} since the start`);
    set(tokens.value, count(minute.prompt_tokens + minute.output_tokens));
    set(tokens.note, `${count(minute.prompt_tokens)} in, ${count(minute.output_tokens)} out`);
    set(latency.value, seconds(now.latency.p50));
    set(latency.note, `95%: ${seconds(now.latency.p95)}`);
    set(errors.value, count(minute.errors));
    latency.node.title = `99% within ${seconds(now.latency.p99)}, of the last five minutes`;
    errors.value.className = minute.errors ? 'bad' : '';
    set(errors.note, now.requests ? `${(100 * now.errors / now.requests).toFixed(1)}% of all` : 'none so far');
    set(cached.value, now.prompt_tokens ? `${Math.round(100 * now.cached_tokens / now.prompt_tokens)}%` : '–');
    set(cached.note, `of ${count(now.prompt_tokens)} input tokens`);
    requests.draw([recent.requests, recent.errors], recent.step_seconds, recent.until);
    times.draw([recent.p50, recent.p95], recent.step_seconds, recent.until);
    traffic.draw([recent.output_tokens, recent.prompt_tokens], recent.step_seconds, recent.until);
    quiet.hidden = now.running.length > 0;
    running.node.hidden = !quiet.hidden;
    sync(running.body, now.running, (row) => row.id, (row) => el('tr', {},
      el('td', {}, el('button', {type: 'button', class: 'plain mono', onclick: () => openRequest(row.id)}, row.id.slice(0, 14))),
      el('td', {class: 'wide'}), el('td', {class: 'wide'}), el('td', {class: 'number'})),
    (line, row) => {
      set(line.children[1], row.model_asked === row.model ? row.model : `${row.model_asked} → ${row.model || '…'}`);
      set(line.children[2], `${nameOf(row.account) ?? 'waits'}${row.attempts > 1 ? ` (attempt ${row.attempts})` : ''}`);
      set(line.children[3], seconds(row.seconds));
    });
    fine.hidden = now.errors_seen.length > 0;
    faults.node.hidden = !fine.hidden;
    sync(faults.body, now.errors_seen, (row) => row.id, (row) => el('tr', {},
      el('td', {class: 'nowrap'}, el('button', {type: 'button', class: 'plain', onclick: () => openRequest(row.id)}, clock(row.at))),
      el('td', {class: statusClass(row.status)}, String(row.status)),
      el('td', {class: 'wide'}, el('div', {class: 'short', title: row.message ?? ''}, `${row.model || row.path}: ${row.message ?? row.error ?? ''}`))));
  }
  return {name: 'Overview', node, show};
}
