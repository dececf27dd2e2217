// Keeps the page up to date while it is open, by the events of web/feed.py. Nothing in them is trusted: it is shown as
// text only, never as HTML. Paths are relative, so that the page works behind a proxy under a path.
"use strict";

(() => {
  const SILENT_MS = 25000; // two beats and a half
  const RETRY_MS = 5000;
  const FULL_RETRY_MS = 30000;
  const CALM = new Set(["Ready", null]); // conditions that ask for nobody
  const TONES = { Ready: "good", Reconciling: "busy", Stalled: "bad", Held: "held" };
  const COLUMNS = ["Domain", "Condition", "Memory", "vCPUs", "Kernel", "Up", "Why", "Since"];
  const ACTS = document.body.dataset.acts === "yes"; // whether who has the token may act

  const known = { controller: {}, hosts: {}, domains: {}, steps: {}, applies: [], windows: [], problems: [], plan: null };
  const rows = new Map(); // address -> { row, cells, text }
  const tables = new Map(); // host -> { section, body, note }
  const byId = (id) => document.getElementById(id);
  const relative = new Intl.RelativeTimeFormat(undefined, { numeric: "auto" });
  let clockAhead = 0; // of the controller's clock before this one, in ms
  let heardAt = 0;
  let stream = null;
  let retry = null;
  let lost = "";

  function element(name, content, attributes = {}) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    for (const one of [content ?? []].flat()) made.append(one);
    return made;
  }

  // Times: told by the controller in UTC, shown as seen from now, with the reader's own zone in the title.

  function ago(iso) {
    const seconds = Math.round((Date.parse(iso) - (Date.now() + clockAhead)) / 1000);
    const size = Math.abs(seconds);
    if (size < 10) return "just now";
    if (size < 60) return relative.format(Math.round(seconds / 10) * 10, "second");
    if (size < 5400) return relative.format(Math.round(seconds / 60), "minute");
    if (size < 129600) return relative.format(Math.round(seconds / 3600), "hour");
    return relative.format(Math.round(seconds / 86400), "day");
  }

  function span(seconds) {
    if (seconds < 60) return `${Math.round(seconds)} s`;
    if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
    if (seconds < 172800) return `${Math.floor(seconds / 3600)} h ${Math.round((seconds % 3600) / 60)} min`;
    return `${Math.floor(seconds / 86400)} d ${Math.round((seconds % 86400) / 3600)} h`;
  }

  function since(iso) {
    return Math.max(0, (Date.now() + clockAhead - Date.parse(iso)) / 1000);
  }

  function time(iso, kind) {
    const made = element("time", "", { datetime: iso, "data-kind": kind, title: new Date(iso).toLocaleString() });
    tick(made);
    return made;
  }

  function tick(made) {
    const text = made.dataset.kind === "span" ? span(since(made.dateTime)) : ago(made.dateTime);
    if (made.textContent !== text) made.textContent = text;
  }

  function size(kib) {
    if (kib === null) return "";
    if (kib >= 10 * 1048576) return `${Math.round(kib / 1048576)} GiB`;
    if (kib >= 1048576) return `${(kib / 1048576).toFixed(1).replace(/\.0$/, "")} GiB`;
    return `${Math.round(kib / 1024)} MiB`;
  }

  // What is shown, part by part.

  function showController() {
    const about = known.controller;
    const counts = Object.entries(about.counts ?? {}).filter(([, count]) => count);
    const summary = counts.map(([word, count]) => `${count} ${word}`).join(", ") || "No domain";
    byId("summary").textContent = `${summary}.${about.drifted ? ` ${about.drifted} drifted.` : ""}`;
    document.title = `${summary} · reconciler`;
    const line = byId("last-pass");
    line.replaceChildren();
    if (about.last_pass) line.append("Last pass ", time(about.last_pass, "ago"), ".");
    else line.append("No pass has ended yet.");
    if (about.commit) {
      line.append(" Commit ", element("code", about.commit.slice(0, 12)));
      if (about.commit_in_words) line.append(` by ${about.commit_in_words}`);
      if (about.signer) line.append(`, signed by ${about.signer}`);
    }
  }

  function showHosts() {
    const list = byId("host-list");
    list.replaceChildren();
    for (const name of Object.keys(known.hosts).sort()) {
      const host = known.hosts[name];
      const card = element("li", element("h3", element("a", name, { href: `#host:${encodeURIComponent(name)}` })));
      if (!host.observed) {
        card.classList.add("silent");
        const when = host.at ? ["It does not answer. What is shown of it was seen ", time(host.at, "ago"), "."] : "It was not observed yet.";
        card.append(element("p", when, { class: "alarm" }));
      }
      if (host.memory_kib !== null) card.append(...memoryOf(host));
      if (host.hold) card.append(element("p", host.hold, { class: "held" }));
      if (ACTS) card.append(holdButton(name, host.hold));
      const facts = [host.cpus ? `${host.cpus} cpus` : "", host.xen ? `Xen ${host.xen}` : ""].filter(Boolean).join(", ");
      const about = element("p", facts, { class: "hint" });
      if (host.observed && host.at) about.append(facts ? ", looked at " : "Looked at ", time(host.at, "ago"));
      if (host.told_by) about.append(about.textContent ? ", by " : "By ", host.told_by, ", which has it");
      card.append(about);
      list.append(card);
    }
    for (const name of new Set([...tables.keys(), ...Object.keys(known.hosts)])) showTable(name);
  }

  function memoryOf(host) {
    const capacity = host.capacity_kib ?? host.memory_kib;
    const used = host.promised_kib ?? host.memory_kib - host.free_kib;
    const meter = element("meter", "", { min: 0, max: capacity, value: used, "aria-label": "memory promised to domains" });
    const free = host.free_kib === null ? "" : `, ${size(host.free_kib)} free now`;
    return [meter, element("p", `${size(used)} of ${size(capacity)} promised${free}`)];
  }

  function showSteps() {
    const list = byId("step-list");
    list.replaceChildren();
    for (const key of Object.keys(known.steps).sort()) {
      const step = known.steps[key];
      const item = element("li", [link(step.address), ` ${step.step}, for `, time(step.began, "span")]);
      if (step.usual_seconds !== null) {
        item.append(`; usually ${span(step.usual_seconds)} `);
        const done = Math.min(since(step.began), step.usual_seconds);
        const bar = element("progress", "", { max: step.usual_seconds, value: done, "aria-label": `progress of ${step.step}` });
        bar.dataset.began = step.began;
        item.append(bar);
      }
      if (step.note) item.append(element("small", step.note));
      list.append(item);
    }
    list.parentElement.hidden = !list.childElementCount;
  }

  function showProblems() {
    const list = byId("problem-list");
    list.replaceChildren();
    for (const problem of known.problems) {
      const item = element("li");
      if (problem.where) item.append(element("code", problem.where), " ");
      item.append(element("strong", problem.summary));
      if (problem.detail) item.append(element("p", problem.detail, { class: "detail" }));
      if (problem.hint) item.append(element("p", `hint: ${problem.hint}`, { class: "hint" }));
      list.append(item);
    }
    list.parentElement.hidden = !list.childElementCount;
  }

  function showApplies() {
    const list = byId("apply-list");
    list.replaceChildren();
    for (const apply of known.applies) {
      const counts = [`${apply.done} done`];
      if (apply.failed) counts.push(`${apply.failed} failed`);
      if (apply.skipped) counts.push(`${apply.skipped} skipped`);
      const item = element("li", [time(apply.began, "ago"), `: ${counts.join(", ")}`]);
      if (apply.failed) item.classList.add("failed");
      if (!apply.ended) item.append(", not ended");
      if (apply.commit) item.append(", for ", element("code", apply.commit.slice(0, 12)));
      if (apply.commit_in_words) item.append(` (${apply.commit_in_words})`);
      if (apply.by) item.append(`, by ${apply.by}`);
      const names = apply.addresses.join(", ") + (apply.more ? ` and ${apply.more} more` : "");
      if (names) item.append(element("small", names));
      if (apply.problem) item.append(element("small", apply.problem, { class: "bad" }));
      list.append(item);
    }
    list.parentElement.hidden = !list.childElementCount;
  }

  function showWindows() {
    const list = byId("window-list");
    list.replaceChildren();
    for (const one of known.windows) {
      const item = element("li", [element("strong", one.name), ` (${one.kind}, ${one.when}${one.host ? `, ${one.host}` : ""}): `]);
      item.append(element("span", one.open ? "open" : "not open", { class: one.open === (one.kind === "allow") ? "good" : "held" }));
      if (one.waiting) item.append(`, ${one.waiting} waiting`);
      if (one.opens) item.append(", they can go on ", time(one.opens, "ago"));
      item.append(element("small", one.actions.join(", ")));
      list.append(item);
    }
    list.parentElement.hidden = !list.childElementCount;
  }

  function showPlan() {
    byId("plan-text").textContent = known.plan ?? "No plan has been made yet.";
  }

  // Domains: a table a host, and only the rows that changed are touched.

  function link(address) {
    return element("a", address, { href: `#${encodeURIComponent(address)}` });
  }

  function showTable(host) {
    let made = tables.get(host);
    const about = known.hosts[host];
    if (!about) {
      made?.section.remove();
      tables.delete(host);
      return undefined;
    }
    if (!made) {
      const head = element("tr", COLUMNS.map((name) => element("th", name, { scope: "col", role: "columnheader" })), { role: "row" });
      const body = element("tbody", [], { role: "rowgroup" });
      const heading = element("h3", host, { id: `host:${host}` });
      const note = element("p", "", { class: "alarm" });
      const table = element("table", [element("thead", head, { role: "rowgroup" }), body], { role: "table", "aria-label": `domains of ${host}` });
      made = { section: element("section", [heading, note, table]), body, note };
      tables.set(host, made);
      const after = [...tables.keys()].sort().find((name) => name > host);
      byId("tables").insertBefore(made.section, after === undefined ? null : tables.get(after)?.section ?? null);
    }
    made.section.classList.toggle("silent", !about.observed);
    made.note.textContent = about.observed ? "" : "This host does not answer, so nothing new is known of its domains.";
    made.note.hidden = about.observed;
    return made;
  }

  function showDomain(address) {
    const domain = known.domains[address];
    let made = rows.get(address);
    if (!domain) {
      made?.row.remove();
      rows.delete(address);
      return;
    }
    const [host, name] = [address.slice(0, address.indexOf("/")), address.slice(address.indexOf("/") + 1)];
    if (!made) {
      const cells = COLUMNS.map((column, index) =>
        index === 0
          ? element("th", element("a", name, { href: `#${encodeURIComponent(address)}` }), { scope: "row", role: "rowheader" })
          : element("td", "", { role: "cell", "data-name": column }));
      made = { row: element("tr", cells, { role: "row", id: address, tabindex: -1 }), cells, text: "", order: "" };
      rows.set(address, made);
    }
    fill(made, address, domain);
    const order = orderOf(address);
    if (order !== made.order || !made.row.isConnected) {
      made.order = order;
      place(showTable(host), made);
    }
    made.row.hidden = !matches(made);
  }

  function orderOf(address) {
    return (CALM.has(known.domains[address]?.condition ?? null) ? "1" : "0") + address;
  }

  function place(table, made) {
    if (!table) return;
    made.row.remove();
    let before = table.body.lastElementChild; // where most come, since they come in order
    while (before && rows.get(before.id).order > made.order) before = before.previousElementSibling;
    table.body.insertBefore(made.row, before ? before.nextElementSibling : table.body.firstElementChild);
  }

  function fill(made, address, domain) {
    const [, condition, memory, vcpus, kernel, up, why, when] = made.cells;
    const word = domain.condition ?? domain.status ?? "unknown";
    condition.replaceChildren(element("span", word, { class: TONES[domain.condition] ?? "other" }));
    if (domain.status && domain.condition && domain.status !== domain.condition.toLowerCase()) {
      condition.append(element("small", domain.status));
    }
    memory.textContent = size(domain.memory_kib);
    vcpus.textContent = domain.vcpus ?? "";
    kernel.textContent = domain.kernel ?? "";
    up.replaceChildren(domain.booted && !domain.silent ? time(domain.booted, "span") : "");
    why.replaceChildren(element("span", domain.reason));
    for (const text of [domain.hold, ...domain.waits_for.filter((wait) => !domain.reason.includes(wait))]) {
      if (text && !domain.reason.includes(text)) why.append(element("small", text));
    }
    if (domain.quarantine.length) why.append(element("small", `quarantined: ${domain.quarantine.join(", ")}`));
    if (domain.hint) why.append(element("p", `hint: ${domain.hint}`, { class: "hint" }));
    when.replaceChildren(domain.since ? time(domain.since, "ago") : "");
    if (ACTS && domain.ours) when.append(holdButton(address, domain.hold));
    made.row.classList.toggle("silent", domain.silent);
    made.text = [address, word, domain.status, domain.kernel, domain.reason, domain.hold].join(" ").toLowerCase();
  }

  function matches(made) {
    const words = byId("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
    return words.every((word) => made.text.includes(word));
  }

  function filter() {
    let shown = 0;
    for (const made of rows.values()) {
      made.row.hidden = !matches(made);
      shown += !made.row.hidden;
    }
    for (const table of tables.values()) {
      table.section.hidden = Boolean(byId("filter").value) && !table.body.querySelector("tr:not([hidden])");
    }
    byId("matches").textContent = byId("filter").value ? `${shown} of ${rows.size}` : "";
  }

  // Acting: with the token, which a browser changes for a cookie.

  function holdButton(address, held) {
    const button = element("button", held ? "Lift hold" : "Hold", { type: "button", class: "act", "aria-label": `${held ? "Lift the hold of" : "Hold"} ${address}` });
    button.addEventListener("click", () => ask(address, held));
    return button;
  }

  let asked = null;

  function ask(address, held) {
    asked = { address, held };
    byId("act-title").textContent = held ? `Lift the hold of ${address}?` : `Hold ${address}?`;
    byId("act-what").textContent = held ?? "Nothing will be begun with it until the hold ends. What was begun is finished.";
    byId("act-for").hidden = byId("act-why").hidden = Boolean(held);
    byId("act-do").textContent = held ? "Lift hold" : "Hold";
    byId("act-login").hidden = true;
    problem("");
    byId("act").showModal();
  }

  function problem(text) {
    byId("act-problem").textContent = text;
    byId("act-problem").hidden = !text;
  }

  async function send(path, body) {
    const token = byId("act-token").value.trim();
    if (token && !byId("act-login").hidden) {
      const form = new URLSearchParams({ token });
      const answer = await fetch("login", { method: "POST", body: form, redirect: "manual" });
      if (answer.status === 401) return { ok: false, text: "That is not the token.", login: true };
      byId("act-token").value = "";
    }
    const answer = await fetch(path, { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" } });
    return { ok: answer.ok, text: await answer.text(), login: answer.status === 401 };
  }

  async function act(event) {
    event.preventDefault();
    const seconds = byId("act-seconds").value;
    const about = { address: asked.address };
    const body = asked.held ? about : { ...about, seconds: seconds ? Number(seconds) : null, reason: byId("act-reason").value };
    byId("act-do").disabled = true;
    try {
      const answer = await send(asked.held ? "unhold" : "hold", body);
      if (answer.ok) byId("act").close();
      else if (answer.login && byId("act-login").hidden) {
        byId("act-login").hidden = false;
        byId("act-token").focus();
      } else problem(answer.text);
    } catch {
      problem("The controller does not answer.");
    } finally {
      byId("act-do").disabled = false;
    }
  }

  async function look() {
    try {
      const answer = await fetch("reconcile", { method: "POST" });
      byId("looking").replaceChildren(answer.ok ? "asked" : answer.status === 401 ? element("a", "log in first", { href: "login" }) : await answer.text());
    } catch {
      byId("looking").textContent = "the controller does not answer";
    }
  }

  byId("act-do").addEventListener("click", act);
  byId("act").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && event.target.matches("input")) act(event);
  });
  byId("look").addEventListener("click", look);
  byId("now").hidden = !ACTS;

  // The stream.

  const SHOW = {
    controller: showController,
    hosts: showHosts,
    steps: showSteps,
    problems: showProblems,
    applies: showApplies,
    windows: showWindows,
    plan: showPlan,
  };

  function take(news, everything) {
    const gone = everything ? Object.keys(known.domains).filter((address) => !(address in news.domains)) : [];
    for (const [part, value] of Object.entries(news)) {
      if (!["hosts", "domains", "steps"].includes(part) || everything) known[part] = value;
      else {
        for (const [key, entry] of Object.entries(value)) {
          if (entry === null) delete known[part][key];
          else known[part][key] = entry;
        }
      }
    }
    for (const [part, show] of Object.entries(SHOW)) if (part in news) show();
    const changed = Object.keys(news.domains ?? {}).map((address) => [orderOf(address), address]);
    changed.sort(([one], [other]) => (one < other ? -1 : 1));
    for (const address of [...gone, ...changed.map(([, address]) => address)]) showDomain(address);
    if (news.domains) filter();
  }

  function heard() {
    heardAt = Date.now();
    say("");
  }

  function say(text) {
    const line = byId("cut-off");
    if (line.textContent === text) return;
    line.textContent = text;
    line.hidden = !text;
    document.body.classList.toggle("cut-off", Boolean(text));
  }

  function isCutOff() {
    return heardAt === 0 || Date.now() - heardAt > SILENT_MS || lost !== "";
  }

  function listen() {
    retry = null;
    stream?.close();
    stream = new EventSource("events");
    stream.addEventListener("all", (event) => {
      const first = byId("live").hidden;
      lost = "";
      take(JSON.parse(event.data), true);
      byId("still").hidden = true;
      byId("still").replaceChildren();
      byId("live").hidden = false;
      byId("renewed").textContent = "This page shows what changes as it happens.";
      heard();
      if (first && location.hash) goTo(decodeURIComponent(location.hash.slice(1)));
    });
    stream.addEventListener("change", (event) => {
      take(JSON.parse(event.data), false);
      heard();
    });
    stream.addEventListener("beat", (event) => {
      const beat = JSON.parse(event.data);
      clockAhead = beat.now * 1000 - Date.now();
      heard();
      if (!beat.healthy) say("The loop does not turn: no pass has ended for too long.");
    });
    stream.onerror = () => {
      lost = "lost";
      cutOff();
      if (stream.readyState === EventSource.CLOSED && retry === null) retry = setTimeout(listen, RETRY_MS + Math.random() * FULL_RETRY_MS);
    };
  }

  function cutOff() {
    if (!isCutOff()) return;
    const when = heardAt ? `What is shown is as of ${new Date(heardAt).toLocaleTimeString()}.` : "It shows what was known when it was opened.";
    say(`This page is cut off from its controller. ${when} It tries again by itself.`);
  }

  function goTo(id) {
    const target = byId(id);
    if (!target) return;
    if (target.hidden) {
      byId("filter").value = "";
      filter();
    }
    target.scrollIntoView({ block: "center" });
    target.focus({ preventScroll: true });
    document.querySelector(".meant")?.classList.remove("meant");
    target.classList.add("meant");
  }

  addEventListener("hashchange", () => goTo(decodeURIComponent(location.hash.slice(1))));
  byId("filter").addEventListener("input", filter);
  addEventListener("keydown", (event) => {
    const typing = event.target.matches?.("input, textarea, select");
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      byId("filter").focus();
    } else if (event.key === "Escape" && event.target === byId("filter")) {
      byId("filter").value = "";
      filter();
    }
  });
  setInterval(() => {
    cutOff();
    if (document.hidden) return;
    for (const one of document.querySelectorAll("#live time, header time")) tick(one);
    for (const bar of document.querySelectorAll("progress")) bar.value = Math.min(since(bar.dataset.began), bar.max);
  }, 5000);
  listen();
})();
