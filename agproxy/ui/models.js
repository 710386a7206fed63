import {read} from './api.js';
import {el, set, span, table} from './dom.js';

export function models() {
  const name = el('input', {name: 'name', placeholder: 'gpt-4o', autocomplete: 'off', spellcheck: 'false', required: true});
  const answer = el('div', {class: 'stack', role: 'status'});
  const list = table(['A client asks for', 'Gemini answers with', 'By the rule'], 'Model names'), note = el('p', {class: 'dim'});
  const node = el('div', {class: 'grid halves'},
    el('section', {class: 'card stack'}, el('h2', {}, 'Names'), note, list.node),
    el('form', {class: 'card stack', onsubmit: (event) => { event.preventDefault(); explain(); }},
      el('h2', {}, 'What does a name mean?'),
      el('div', {class: 'row ends'}, el('label', {}, 'Name, as a client would send it', name), el('button', {class: 'primary'}, 'Explain')), answer));

  async function explain() {
    try {
      const found = await read('explain', {body: {model: name.value}});
      const told = [['Rule', found.rule], ['Why', found.why], ...found.fallbacks.map((one) => ['Else', `${one}, when every account is out`]),
        ...found.notes.map((one) => ['Note', one]), ...found.lost.map((one) => ['Lost', `${one.rule} (${one.model}): ${one.why}`]),
        ...(found.no_match.length ? [['No match', found.no_match.join(', ')]] : [])];
      answer.replaceChildren(
        el('p', {}, el('b', {}, found.name), found.model ? ' is ' : ' is no model here: 404', found.model ? el('b', {class: 'good'}, found.model) : null),
        el('dl', {}, told.filter(([, value]) => value).flatMap(([key, value]) => [el('dt', {}, key), el('dd', {}, value)])));
    } catch (error) {
      answer.replaceChildren(el('p', {class: 'bad'}, error.message));
    }
  }

  async function open() {
    try {
      const found = await read('models');
      set(note, found.listed ? `Upstream lists ${found.listed} models.` : 'What upstream lists is not known yet.');
      list.body.replaceChildren(...found.data.map((row) => el('tr', {}, el('td', {class: 'wide'},
        el('button', {type: 'button', class: 'plain', onclick: () => { name.value = row.name.replaceAll('*', 'x'); explain(); }}, row.name)),
      el('td', {class: 'wide'}, row.model.replaceAll('|', ', else ')), el('td', {class: 'wide dim'}, row.rule))));
    } catch (error) {
      set(note, error.message);
    }
  }
  return {name: 'Models', node, open, show: () => {}};
}

export function settings() {
  const list = table(['Setting', 'Value', 'Meaning'], 'Settings'), facts = el('p', {class: 'dim'});
  const only = el('input', {type: 'checkbox', onchange: () => draw()});
  const node = el('section', {class: 'card stack'}, el('div', {class: 'row between'}, el('h2', {}, 'Settings'),
    el('label', {class: 'check'}, only, 'Only those that were changed')), facts, list.node);
  let rows = [];

  function draw() {
    list.body.replaceChildren(...rows.filter((row) => !only.checked || !row.is_default).map((row) => el('tr', {},
      el('td', {class: 'mono wide'}, row.key), el('td', {class: `mono wide ${row.is_default ? 'dim' : ''}`}, row.value || '(empty)'), el('td', {class: 'dim wide'}, row.help))));
  }

  async function open() {
    try {
      const found = await read('status');
      set(facts, `agproxy ${found.version}, up for ${span(found.uptime_seconds)}, ${found.workers} process${found.workers > 1 ? 'es' : ''}. Secrets are not shown. Change settings by flag, variable or config.json.`);
      rows = found.settings;
      draw();
    } catch (error) {
      set(facts, error.message);
    }
  }
  return {name: 'Settings', node, open, show: () => {}};
}
