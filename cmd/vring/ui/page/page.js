// The page of one vring. It asks once a second, and shows what is answered. All text goes into the page as text, never as HTML.
"use strict";

const interval = 1000; // between two questions, in milliseconds
const remembered = 120; // rates of each guest
const mostFlows = 500;
const mostEvents = 200;

const state = {
  guest: "", // the name of the one that is chosen
  status: null,
  meters: new Map(), // of guests, by name
  flows: [],
  flowsBefore: new Map(), // by name, with their time
  flowsAt: 0,
  more: false,
  counters: new Map(), // of the chosen guest
  countersAt: 0,
};

const byId = (id) => document.getElementById(id);

function element(name, attributes = {}, ...children) {
  const e = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) e.setAttribute(key, value);
  e.append(...children);
  return e;
}

function drawing(name, attributes = {}, ...children) {
  const e = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) e.setAttribute(key, value);
  e.append(...children);
  return e;
}

// scaled is a number with three digits and a prefix, ending in a space.
function scaled(v) {
  for (const prefix of ["", "k", "M", "G"]) {
    if (v < 999.5) return (v < 9.995 && v % 1 ? v.toFixed(2) : v < 99.95 && v % 1 ? v.toFixed(1) : v.toFixed(0)) + " " + prefix;
    v /= 1000;
  }
  return v.toFixed(0) + " T";
}

const bits = (bytes) => scaled(bytes * 8) + "bit/s";

function duration(ms) {
  const s = Math.round(ms / 1000);
  if (s < 60) return s + " s";
  if (s < 3600) return Math.floor(s / 60) + " min";
  return Math.floor(s / 3600) + " h " + Math.floor((s % 3600) / 60) + " min";
}

// ask makes a request. The error is what vring has against it.
async function ask(method, path, question) {
  const options = { method, credentials: "same-origin" };
  if (question !== undefined) {
    options.body = JSON.stringify(question);
    options.headers = { "Content-Type": "application/json" };
  }
  const response = await fetch(path, options);
  const answer = await response.json();
  if (!response.ok) {
    const error = new Error((answer.faults || []).map((f) => f.text).join("; ") || answer.error || response.statusText);
    error.status = response.status;
    throw error;
  }
  return answer;
}

// there is what a request answers, or what else if vring has no such thing: its guests are not behind NAT.
async function there(path, otherwise) {
  try {
    return await ask("GET", path);
  } catch (error) {
    if (error.status === 404 || error.status === 422) return otherwise;
    throw error;
  }
}

const pathOf = (guest, rest) => "/v1/guests/" + encodeURIComponent(guest) + rest;

async function read() {
  const status = await ask("GET", "/v1/status");
  state.status = status;
  const names = status.guests.map((g) => g.name);
  if (!names.includes(state.guest)) state.guest = names[0] || "";
  const guest = state.guest;
  measureGuests(status.guests, performance.now());
  const [flows, counters, forwards] = await Promise.all([
    guest ? there(pathOf(guest, "/flows?limit=" + mostFlows), { flows: [], more: false }) : { flows: [], more: false },
    ask("GET", "/v1/counters"),
    there("/v1/forwards", []),
  ]);
  if (guest !== state.guest) return; // another one was chosen meanwhile
  measureFlows(flows, performance.now());
  showProcess(status);
  showPicture(status.guests);
  showTraffic();
  showFlows();
  showCounters(counters, performance.now());
  showForwards(forwards);
}

// measureGuests finds out how much passes each second. A vring that was started again begins at 0.
function measureGuests(guests, now) {
  for (const name of state.meters.keys()) if (!guests.some((g) => g.name === name)) state.meters.delete(name);
  for (const g of guests) {
    const sum = (key) => g.pairs.reduce((n, pair) => n + pair[key], 0);
    const from = sum("from_guest_bytes"), to = sum("to_guest_bytes");
    const m = state.meters.get(g.name) || { from: [], to: [] };
    if (m.at !== undefined) {
      const seconds = (now - m.at) / 1000;
      m.from.push(Math.max(0, from - m.fromBytes) / seconds);
      m.to.push(Math.max(0, to - m.toBytes) / seconds);
      if (m.from.length > remembered) { m.from.shift(); m.to.shift(); }
    }
    Object.assign(m, { at: now, fromBytes: from, toBytes: to });
    state.meters.set(g.name, m);
  }
}

const flowName = (f) => [state.guest, f.proto, f.guest, f.remote].join(" ");

function measureFlows(answer, now) {
  const seconds = (now - state.flowsAt) / 1000;
  const known = state.flowsAt !== 0;
  const before = state.flowsBefore;
  state.flowsBefore = new Map();
  for (const f of answer.flows) {
    const old = before.get(flowName(f));
    const same = old && old.from_guest_bytes <= f.from_guest_bytes && old.to_guest_bytes <= f.to_guest_bytes;
    f.fromRate = known ? (f.from_guest_bytes - (same ? old.from_guest_bytes : 0)) / seconds : 0;
    f.toRate = known ? (f.to_guest_bytes - (same ? old.to_guest_bytes : 0)) / seconds : 0;
    state.flowsBefore.set(flowName(f), f);
  }
  state.flows = answer.flows;
  state.more = answer.more;
  state.flowsAt = now;
}

function showProcess(status) {
  const weak = status.sandbox.filter((wall) => wall.weak).length;
  byId("process").textContent = `version ${status.version}, up ${duration(status.uptime_seconds * 1000)}, ${status.guests.length} ${status.guests.length === 1 ? "guest" : "guests"}, ` +
    `${scaled(status.process.heap_bytes)}B of heap, ` + (status.sandbox.length === 0 ? "no sandbox" : weak ? `${weak} walls of the sandbox are weak` : "in its sandbox");
  for (const e of document.querySelectorAll(".guest")) e.textContent = state.guest || "no guest";
}

const last = (rates) => rates[rates.length - 1] || 0;

// thickness of a line, of its rate in bytes a second: a step for each factor of ten.
const thickness = (rate) => rate < 1 ? 1 : Math.min(10, 1 + Math.log10(rate));

// showPicture draws the network: the host's, vring, and rows of guests below it.
function showPicture(guests) {
  const width = 960, box = 184, gap = 10, columns = Math.floor((width + gap) / (box + gap)), row = 84, top = 130;
  const height = top + row * Math.ceil(guests.length / columns);
  const focused = document.activeElement && document.activeElement.dataset ? document.activeElement.dataset.guest : undefined;
  const svg = drawing("svg", { viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": "the guests and their network" });
  svg.append(drawing("path", { class: "link", d: `M ${width / 2} 30 V 60`, "stroke-width": 2 }));
  svg.append(labelled(width / 2 - 110, 2, 220, 28, "network of the host"), labelled(width / 2 - 50, 56, 100, 28, "vring"));
  const boxes = [];
  guests.forEach((g, i) => {
    const inRow = Math.min(columns, guests.length - Math.floor(i / columns) * columns);
    const left = (width - inRow * (box + gap) + gap) / 2;
    const x = left + (i % columns) * (box + gap), y = top + Math.floor(i / columns) * row;
    const m = state.meters.get(g.name);
    const rate = last(m.from) + last(m.to);
    svg.append(drawing("path", {
      class: "link", d: `M ${width / 2} 84 C ${width / 2} ${y - 20}, ${x + box / 2} 100, ${x + box / 2} ${y}`,
      "stroke-width": thickness(rate).toFixed(1), opacity: g.frontend === "up" && g.link === "up" ? 1 : 0.3,
    }));
    boxes.push(guestBox(g, x, y, box, m));
  });
  svg.append(...boxes); // in front of the lines
  byId("picture").replaceChildren(svg);
  if (focused) svg.querySelector(`[data-guest="${CSS.escape(focused)}"]`)?.focus();
}

function labelled(x, y, width, height, text) {
  return drawing("g", {}, drawing("rect", { x, y, width, height, rx: 6 }),
    drawing("text", { x: x + width / 2, y: y + height / 2 + 4, "text-anchor": "middle" }, text));
}

// stageOf is how far a guest has come.
const stageOf = (g) => g.frontend + ((g.frontend_kind ?? "vhost-user") === "vhost-user" ? "" : ` (${g.frontend_kind})`) + (g.link === "down" ? ", link down" : "");

function guestBox(g, x, y, box, m) {
  const rates = `${bits(last(m.from))} out, ${bits(last(m.to))} in`;
  const shown = g.name.length > 26 ? "…" + g.name.slice(-25) : g.name;
  const e = drawing("g", {
    role: "button", tabindex: 0, "data-guest": g.name, "aria-pressed": g.name === state.guest, "aria-label": `guest ${g.name}, ${stageOf(g)}, ${rates}`,
  },
  drawing("rect", { x, y, width: box, height: 66, rx: 6 }),
  drawing("text", { x: x + 8, y: y + 18 }, shown),
  drawing("text", { x: x + 8, y: y + 36, class: "stage" }, stageOf(g)),
  drawing("text", { x: x + 8, y: y + 54, class: "stage" }, `↑ ${bits(last(m.from))}  ↓ ${bits(last(m.to))}`));
  e.addEventListener("click", () => choose(g.name));
  e.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    choose(g.name);
  });
  return e;
}

function choose(guest) {
  if (guest === state.guest) return;
  Object.assign(state, { guest, flows: [], flowsBefore: new Map(), flowsAt: 0, counters: new Map(), countersAt: 0 });
  showPicture(state.status.guests);
  byId("flows").replaceChildren();
  byId("counters").replaceChildren();
  now();
}

function showTraffic() {
  const m = state.meters.get(state.guest) || { from: [], to: [] };
  const most = Math.max(1, ...m.from, ...m.to);
  const line = (rates, name) => drawing("path", {
    class: name,
    d: rates.map((rate, i) => `${i ? "L" : "M"} ${(600 * (i + remembered - rates.length) / (remembered - 1)).toFixed(1)} ${(155 - 150 * rate / most).toFixed(1)}`).join(" "),
  });
  byId("plot").replaceChildren(line(m.from, "from"), line(m.to, "to"));
  byId("rates").textContent = `${bits(last(m.from))} from the guest, ${bits(last(m.to))} to it`;
  byId("most").textContent = bits(most);
}

const orders = {
  rate: (a, b) => b.fromRate + b.toRate - a.fromRate - a.toRate,
  bytes: (a, b) => b.from_guest_bytes + b.to_guest_bytes - a.from_guest_bytes - a.to_guest_bytes,
  age: (a, b) => b.age_ms - a.age_ms,
};

const cell = (text, number) => element("td", number ? { class: "number" } : {}, String(text));

// showRows shows rows that have names. A row that was there stays the same element, so that the focus stays on its button.
function showRows(body, rows, name, cells, action) {
  const before = new Map([...body.children].map((row) => [row.dataset.name, row]));
  body.replaceChildren(...rows.map((r) => {
    const id = name(r);
    const row = before.get(id) || element("tr", { "data-name": id });
    const button = row.lastElementChild || (action ? element("td", {}, action(r)) : undefined);
    row.replaceChildren(...cells(r));
    if (action) row.append(button);
    return row;
  }));
}

function keepFocus(change) {
  const focused = document.activeElement;
  change();
  if (focused && focused !== document.activeElement && document.contains(focused)) focused.focus();
}

function showFlows() {
  byId("flow-count").textContent = state.flows.length + (state.more ? " and more" : "");
  const sorted = [...state.flows].sort(orders[byId("order").value]);
  keepFocus(() => showRows(byId("flows"), sorted, flowName, (f) => [
    cell(f.proto), cell(f.inbound ? "in" : "out"), cell(f.guest), cell(f.remote), cell(f.state), cell(bits(f.fromRate), true), cell(bits(f.toRate), true),
    cell(duration(f.age_ms), true),
  ], (f) => actionButton("End", `End the flow of ${f.guest} with ${f.remote}`, () => endFlow(f))));
}

function actionButton(text, label, act) {
  const button = element("button", { type: "button", "aria-label": label }, text);
  button.addEventListener("click", act);
  return button;
}

async function endFlow(f) {
  const colon = f.guest.lastIndexOf(":");
  const q = new URLSearchParams({
    proto: f.proto, direction: f.inbound ? "in" : "out", "guest-address": f.guest.slice(0, colon).replace(/^\[|\]$/g, ""), remote: f.remote,
  });
  if (f.guest.slice(colon + 1) !== "0") q.set("guest-port", f.guest.slice(colon + 1));
  try {
    await ask("DELETE", pathOf(state.guest, "/flows?" + q));
    fail();
  } catch (error) {
    fail(error);
  }
  now();
}

function showCounters(all, at) {
  const sums = new Map();
  for (const c of all) {
    if (c.guest !== state.guest) continue;
    for (const [name, value] of Object.entries(c.counters)) sums.set(name, (sums.get(name) || 0) + value);
  }
  const seconds = (at - state.countersAt) / 1000;
  const rate = (name) => state.countersAt ? Math.max(0, sums.get(name) - (state.counters.get(name) || 0)) / seconds : 0;
  const rows = [...sums.keys()].filter((name) => sums.get(name) > 0).map((name) => ({ name, value: sums.get(name), rate: rate(name) }));
  rows.sort((a, b) => b.rate - a.rate || b.value - a.value);
  showRows(byId("counters"), rows, (r) => r.name, (r) => [cell(r.name), cell(r.value, true), cell(r.rate.toFixed(0), true)]);
  state.counters = sums;
  state.countersAt = at;
}

function showForwards(forwards) {
  keepFocus(() => showRows(byId("forwards"), forwards, (f) => f.guest + " " + f.text, (f) => [cell(f.guest), cell(f.text)],
    (f) => actionButton("Remove", "Remove the forward " + f.text, () => change(byId("forward-form"), "PATCH", pathOf(f.guest, "/forwards"), { remove: [{ text: f.text }] }))));
}

// change makes a change, and tells what became of it in a form.
async function change(form, method, path, question) {
  const told = form.querySelector(".told");
  try {
    const answer = await ask(method, path, question);
    told.classList.remove("bad");
    told.textContent = answer.changed.length ? "changed" : "it was so already";
    now();
    return true;
  } catch (error) {
    told.classList.add("bad");
    told.textContent = error.message;
    return false;
  }
}

async function addForward(event) {
  event.preventDefault();
  const field = byId("forward");
  if (await change(byId("forward-form"), "PATCH", "/v1/forwards", { add: [{ text: field.value.trim() }] })) field.value = "";
}

const linesOf = (id) => byId(id).value.split("\n").map((line) => line.trim()).filter((line) => line !== "");

function rulesOf(lines) {
  return lines.map((line) => {
    const [verb, ...rest] = line.split(/\s+/);
    if (verb !== "allow" && verb !== "deny" || rest.length !== 1) throw new Error(`"${line}": want allow or deny, and one destination`);
    return { [verb]: rest[0] };
  });
}

async function replacePolicy(event) {
  event.preventDefault();
  const form = byId("policy-form"), told = form.querySelector(".told");
  try {
    await change(form, "PUT", "/v1/policy", { rules: rulesOf(linesOf("rules")), restrict: byId("restrict").checked, allow_host: linesOf("services") });
  } catch (error) {
    told.classList.add("bad");
    told.textContent = error.message;
  }
}

async function showPolicy() {
  try {
    const p = await there("/v1/policy", null);
    byId("policy-form").hidden = p === null;
    if (p === null) return;
    byId("rules").value = p.rules.map((r) => r.allow ? "allow " + r.allow : "deny " + r.deny).join("\n");
    byId("services").value = p.allow_host.join("\n");
    byId("restrict").checked = p.restrict;
    byId("policy-form").querySelector(".told").textContent = "";
  } catch (error) {
    fail(error);
  }
}

function followEvents() {
  const source = new EventSource("/v1/events");
  const kinds = [
    "frontend", "notice", "changed", "reloaded", "not-reloaded", "guest-added", "guest-removed", "guest-stopped", "broker-ended", "resolvers-unreadable", "audit-failed", "audit-goes-on", "draining",
    "drain-cancelled", "link", "stopping", "lost",
  ];
  for (const kind of kinds) source.addEventListener(kind, (event) => showEvent(JSON.parse(event.data)));
}

function eventText(e) {
  const parts = [e.guest, e.kind, e.frontend, e.link, e.text, e.key && `${e.key}=${e.value}`, e.lost && `${e.lost} events were not read in time`];
  for (const d of e.changed || []) {
    parts.push(`${d.key}:`, ...(d.removed || []).map((v) => "-" + v), ...(d.added || []).map((v) => "+" + v));
  }
  return parts.filter(Boolean).join(" ");
}

function showEvent(e) {
  const time = e.time ? new Date(e.time) : new Date();
  const list = byId("events");
  list.prepend(element("li", {}, element("time", { datetime: time.toISOString() }, time.toLocaleTimeString()), " " + eventText(e)));
  while (list.children.length > mostEvents) list.lastElementChild.remove();
}

function capture(event) {
  event.currentTarget.action = pathOf(state.guest, "/capture");
  byId("filter").disabled = byId("filter").value.trim() === "";
  setTimeout(() => { byId("filter").disabled = false; });
}

function fail(error) {
  byId("failure").hidden = !error;
  byId("failure").textContent = error ? error.message : "";
}

let timer = 0, reading = false, again = false;

// now asks at once, and each interval from then on.
async function now() {
  clearTimeout(timer);
  if (reading) { again = true; return; }
  reading = true;
  try {
    await read();
    fail();
  } catch (error) {
    fail(error);
  }
  reading = false;
  timer = setTimeout(now, again ? 0 : interval);
  again = false;
}

function setTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
  try { localStorage.setItem("theme", theme); } catch { /* the browser keeps nothing */ }
}

function begin() {
  let theme = "";
  try { theme = localStorage.getItem("theme") || ""; } catch { /* as above */ }
  byId("theme").value = theme;
  setTheme(theme);
  byId("theme").addEventListener("change", (event) => setTheme(event.target.value));
  byId("order").addEventListener("change", showFlows);
  byId("forward-form").addEventListener("submit", addForward);
  byId("policy-form").addEventListener("submit", replacePolicy);
  byId("policy-again").addEventListener("click", showPolicy);
  byId("capture-form").addEventListener("submit", capture);
  showPolicy();
  followEvents();
  now();
}

begin();
