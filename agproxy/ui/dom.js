// Elements, numbers in words, and a chart. Text only ever becomes text: nothing here parses HTML.

// el('td', {class: 'number', onclick: f}, 'text', node, null)
export function el(tag, given = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(given)) {
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else if (name in node && typeof value !== 'string') node[name] = value;
    else node.setAttribute(name === 'htmlFor' ? 'for' : name, value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== ''));
  return node;
}

function shape(tag, given) {
  const node = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(given)) node.setAttribute(name, value);
  return node;
}

// Make a parent's children stand for these items. Nodes that stay are not touched, so that focus stays where it is.
export function sync(parent, items, keyOf, make, update = () => {}) {
  const known = new Map([...parent.children].map((node) => [node.dataset.key, node]));
  const kept = new Set(items.map((item) => String(keyOf(item))));
  for (const [key, node] of known) if (!kept.has(key)) node.remove();
  let place = parent.firstElementChild;
  for (const item of items) {
    const key = String(keyOf(item));
    let node = known.get(key);
    if (!node) {
      node = make(item);
      node.dataset.key = key;
    }
    update(node, item);
    if (node === place) place = place.nextElementSibling;
    else parent.insertBefore(node, place);
  }
}

export function set(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function table(heads, caption) {
  const body = el('tbody');
  const cells = heads.map((head) => el('th', {scope: 'col', class: head.class ?? ''}, head.text ?? head));
  return {node: el('div', {class: 'scroll', tabIndex: 0, role: 'region', 'aria-label': caption},
    el('table', {}, el('thead', {}, el('tr', {}, cells)), body)), body};
}

export function count(number) {
  if (number < 10000) return String(number);
  return number < 1e6 ? `${(number / 1e3).toFixed(number < 1e5 ? 1 : 0)} k` : `${(number / 1e6).toFixed(1)} M`;
}

export function seconds(number) {
  if (number === null || number === undefined) return '–';
  if (number < 1) return `${Math.round(number * 1000)} ms`;
  if (number < 60) return `${number.toFixed(number < 10 ? 2 : 1)} s`;
  return span(number);
}

export function span(number) {
  const whole = Math.max(0, Math.round(number));
  const [days, hours, minutes] = [Math.floor(whole / 86400), Math.floor(whole / 3600) % 24, Math.floor(whole / 60) % 60];
  if (days) return `${days} d ${hours} h`;
  if (hours) return `${hours} h ${String(minutes).padStart(2, '0')} m`;
  return minutes ? `${minutes} m ${String(whole % 60).padStart(2, '0')} s` : `${whole} s`;
}

export function clock(at) {
  return new Date(at * 1000).toLocaleTimeString([], {hour12: false});
}

export function statusClass(status) {
  return status >= 500 ? 'bad' : status >= 400 ? 'warn' : 'good';
}

const WIDTH = 600, HEIGHT = 120;

// A chart over time. series: [{name, class, fill}], told: a number as text. `draw(rows, step, until)` shows rows of
// numbers, null where there is none, the last of which ends at `until`.
export function chart(title, series, told) {
  const svg = shape('svg', {viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none', role: 'img', 'aria-label': title});
  const lines = series.map((one) => [one.fill ? shape('path', {class: 'area'}) : null, shape('path', {class: `series ${one.class}`})]);
  const cursor = shape('line', {class: 'cursor', y1: 0, y2: HEIGHT, visibility: 'hidden'});
  svg.append(...lines.flat().filter(Boolean), cursor);
  const most = el('span', {class: 'most'}), readout = el('span', {class: 'dim told'}), begin = el('span'), end = el('span');
  const legend = series.map((one) => [el('i', {class: `key ${one.class}`}), one.name]);
  const node = el('section', {class: 'card'},
    el('div', {class: 'row between'}, el('h2', {}, title), readout),
    el('div', {class: 'plot'}, svg, most),
    el('div', {class: 'times'}, begin, el('span', {}, legend), end));
  let last = null, at = null;

  function tell() {
    if (!last) return;
    const {rows, step, until} = last;
    const length = rows[0].length;
    const number = at === null ? length - 1 : at;
    cursor.setAttribute('visibility', at === null ? 'hidden' : 'visible');
    cursor.setAttribute('x1', (number / (length - 1)) * WIDTH);
    cursor.setAttribute('x2', (number / (length - 1)) * WIDTH);
    const words = series.map((one, index) => `${one.name} ${told(rows[index][number])}`).join(', ');
    set(readout, at === null ? '' : `${clock(until - step * (length - number))}: ${words}`);
  }
  svg.addEventListener('pointermove', (event) => {
    const box = svg.getBoundingClientRect();
    const share = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
    at = last && Math.round(share * (last.rows[0].length - 1));
    tell();
  });
  svg.addEventListener('pointerleave', () => { at = null; tell(); });

  function draw(rows, step, until) {
    last = {rows, step, until};
    const highest = Math.max(...rows.flat().map(Number));
    const scale = highest || 1;
    rows.forEach((row, index) => {
      let path = '', open = false;
      row.forEach((value, number) => {
        // A long line of zeros is the axis, and would look like something.
        if (value === null || !(value || row[number - 1] || row[number + 1])) { open = false; return; }
        const x = ((number / (row.length - 1)) * WIDTH).toFixed(1), y = (HEIGHT - (value / scale) * (HEIGHT - 14)).toFixed(1);
        path += open ? `L${x} ${y}` : `M${x} ${y}h.01`;
        open = true;
      });
      const [area, line] = lines[index];
      line.setAttribute('d', path);
      if (area) area.setAttribute('d', path);
    });
    set(most, highest ? told(highest) : '');
    set(begin, clock(until - step * rows[0].length));
    set(end, 'now');
    tell();
  }
  return {node, draw};
}
