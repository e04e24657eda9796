/* The status page. What it shows is said by the address and by the answers of /api/v1; it keeps nothing itself.
   Invariants: what a job says becomes a text node or the value of an attribute, never markup; nothing is asked while
   the page is hidden; there is one page of rows at most; only a confirmed POST changes anything. */

const API = "/api/v1";
const ROWS = 25, FEW = 8, DAY_S = 86_400, HISTORY_MS = 300_000, ANSWER_MS = 20_000;
const WAIT_S = 5, LONGEST_WAIT_S = 60, LOG_WAIT_S = 2, LOG_CHARACTERS = 262_144, LOG_ANSWERS = 64;
const QUEUED = ["queued"], ACTIVE = ["starting", "running"];
const FAILED = ["failed", "timed_out", "rejected", "error", "lost", "expired"];
const STATES = [...QUEUED, ...ACTIVE, "succeeded", ...FAILED, "cancelled"];
// Words of the filter for several states.
const GROUPS = { unfinished: [...QUEUED, ...ACTIVE], active: ACTIVE, failures: FAILED };
const JOB_FIELDS = "id,name,state,reason,exit_code,image,host,submitted_at,claimed_at,finished_at,run_s,batch_id,"
  + "submitted_by,cancel_reason,queue,wait";
const BATCH_FIELDS = "id,name,size,limit,submitted_by,submitted_at,finished_at,done,counts,jobs_per_s,eta_s,retryable";
const HOST_FIELDS = "host,state,slots,running,version,docker,heard_at,drained,status,queues,offer,free";

/* Words */

// Control characters, and those that turn the direction of what follows, let a name pass for something else.
const UNSEEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]/g;
const clean = (text) => text.replace(UNSEEN, "\ufffd");
const line = (text) => clean(String(text ?? "").replace(/[\n\t]+/g, " "));
const short = (id) => line(id).slice(0, 8);
const words = (state) => line(state).replaceAll("_", " ");
const count = (number) => number.toLocaleString("en");
const many = (number, noun) => `${count(number)} ${noun}${number === 1 ? "" : "s"}`;
const quoted = (text) => /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
const total = (counts, names) => names.reduce((sum, name) => sum + (counts[name] ?? 0), 0);
// A field that a damaged record, or a plain Celery client's job, has otherwise than ours is shown as it is, or left out.
const list = (value) => Array.isArray(value) ? value.filter((each) => each !== null) : [];
const shown = (value, unit) => typeof value === "number" ? unit(value) : line(value);
const seconds = (from, to) => (Date.parse(to) - Date.parse(from)) / 1000;

let ahead_ms = 0; // How far Redis' clock is ahead of this computer's.

function span(s) {
  const units = [["d", DAY_S], ["h", 3600], ["min", 60], ["s", 1]], place = units.findIndex(([, size]) => s >= size);
  if (s < 9.95) return `${+Math.max(0, s).toFixed(1)} s`;
  const [unit, size] = units[place], [part, small] = units[place + 1] ?? [], whole = Math.floor(s / size);
  const rest = part && whole < 10 ? Math.floor(s % size / small) : 0;
  return `${whole} ${unit}${rest ? ` ${rest} ${part}` : ""}`;
}

function bytes(number) {
  const place = number < 1024 ? 0 : Math.min(4, Math.floor(Math.log2(number) / 10)), size = number / 1024 ** place;
  return `${place && size < 10 ? size.toFixed(1) : Math.round(size)} ${["B", "KiB", "MiB", "GiB", "TiB"][place]}`;
}

/* Elements */

const DRAWN = new Set(["svg", "rect", "path"]);

function el(name, attributes, ...children) {
  const node = DRAWN.has(name) ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes ?? {})) {
    if (value !== null && value !== undefined && value !== false) node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child || child === 0));
  return node;
}

const byId = (id) => document.getElementById(id);
const link = (place, text, attributes) => el("a", { href: `#${place}`, ...attributes }, text);
const to = (path, query = {}) => `${path}${Object.keys(query).length ? `?${new URLSearchParams(query)}` : ""}`;
const jobPlace = (id) => `/jobs/${encodeURIComponent(id)}`;
const muted = (...parts) => el("span", { class: "muted" }, parts);
const code = (text, attributes) => el("code", attributes, text);
const own = (text, title) => el("bdi", { title }, line(text)); // A text of somebody's own, whatever its direction.
const tag = (id) => code(short(id), { class: "muted", title: line(id) });
const person = (row) => own(row.submitted_by?.split("@")[0] || "–", line(row.submitted_by));
const blank = (...parts) => el("p", { class: "blank" }, parts);
const heading = (text, ...beside) => el("div", { class: "heading" }, el("h1", { tabindex: "-1" }, text), beside);
const section = (key, title, more, ...content) => el("section", { "data-key": key, "aria-labelledby": `h-${key}` },
  el("h2", { id: `h-${key}` }, title, more && [" ", el("span", { class: "more" }, more)]), content);
const button = (text, does, data) => el("button", { type: "button", "data-do": does, ...data }, text);
const pages = (first, next) => (first || next) && el("nav", { class: "pages", "aria-label": "Pages" }, first && link(...first), next && link(...next));

const command = (text) => el("span", { class: "command" }, code(text), button("Copy", "copy", { "data-text": text, "aria-label": `Copy ${text}` }));

function time(text, tail = "") {
  if (!text) return muted("–");
  const at = Date.parse(text), age_s = (Date.now() + ahead_ms - at) / 1000;
  return el("time", { datetime: text, title: `${new Date(at).toLocaleString("sv")} (${line(text)})` },
    age_s < -1 ? `in ${span(-age_s)}` : span(age_s) + tail);
}

const SHAPES = { queued: "○", starting: "◐", running: "●", succeeded: "✓", failed: "✕", cancelled: "–" };

function state(name, kind = FAILED.includes(name) ? "failed" : name in SHAPES ? name : "unknown") {
  return el("span", { class: `is ${kind}` }, el("span", { "aria-hidden": "true" }, SHAPES[kind] ?? "?"), " ", words(name));
}

/* A table; a narrow window lays its rows out as blocks, and then only its roles say that it is one. */
function table(label, kind, heads, rows) {
  return el("table", { role: "table", "aria-label": label, class: kind },
    el("thead", { role: "rowgroup" }, el("tr", { role: "row" },
      heads.map(([name, ...content]) => el("th", { role: "columnheader", scope: "col", class: name }, content)))),
    el("tbody", { role: "rowgroup" }, rows));
}

const row = (key, ...cells) => el("tr", { role: "row", "data-key": key },
  cells.filter(Boolean).map(([name, ...content]) => el("td", { role: "cell", class: name }, content)));

/* Turn the old content into the fresh one and leave alone what is the same: focus, selection and scrolling stay. */
function morph(old, fresh) {
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  if (old.hasAttribute("data-keep")) return;
  for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  const keyOf = (node) => node.nodeType === Node.ELEMENT_NODE ? node.getAttribute("data-key") : null;
  const wanted = new Set([...fresh.childNodes].map(keyOf));
  for (const child of [...old.childNodes]) if (keyOf(child) && !wanted.has(keyOf(child))) child.remove();
  const keyed = new Map([...old.childNodes].map((child) => [keyOf(child), child]));
  let place = old.firstChild;
  for (const next of [...fresh.childNodes]) {
    const match = keyOf(next) ? keyed.get(keyOf(next)) : place;
    if (match?.nodeName === next.nodeName && keyOf(match) === keyOf(next)) {
      if (match === place) place = place.nextSibling;
      else old.insertBefore(match, place);
      morph(match, next);
    } else old.insertBefore(next, place);
  }
  while (place) {
    const gone = place;
    place = place.nextSibling;
    gone.remove();
  }
}

/* Questions */

class Failure extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

async function ask(path, { signal, method = "GET", body } = {}) {
  const late = new AbortController(), stop = () => late.abort(), timer = setTimeout(stop, ANSWER_MS);
  signal?.addEventListener("abort", stop);
  try {
    const answer = await fetch(path, {
      method, signal: late.signal, cache: "no-store", credentials: "same-origin",
      ...(body && { headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) }),
    });
    const content = await answer.json().catch(() => null);
    if (!answer.ok || !content) throw new Failure(answer.status, line(content?.error ?? `The service answered ${answer.status}`));
    if (content.now) ahead_ms = Date.parse(content.now) - Date.now();
    return content;
  } catch (error) {
    throw error instanceof Failure ? error : new Failure(0, `no connection, or nothing in ${ANSWER_MS / 1000} s`);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", stop);
  }
}

const get = (path, query, signal) => ask(`${API}/${to(path, Object.fromEntries(Object.entries(query).filter(([, value]) => value)))}`, { signal });
const jobsOf = (query, signal) => get("jobs", { ...query, fields: JOB_FIELDS }, signal);

// The last lines of jobs that have ended, which stay as they are; of the rows that are shown only.
let endLines = new Map();

async function addLines(rows, signal) {
  const told = rows.filter((job) => job.state === "running" || FAILED.includes(job.state));
  const ids = told.map((job) => job.id).filter((id) => !endLines.has(id));
  const { lines } = ids.length ? await get("lastlines", { ids }, signal) : { lines: {} };
  for (const job of told) job.line = endLines.get(job.id) ?? lines[job.id]?.line ?? "";
  endLines = new Map(told.filter((job) => job.finished_at).map((job) => [job.id, job.line]));
}

let past = null, pastAt_ms = 0;

async function pastDay(signal) {
  if (!past || Date.now() - pastAt_ms > HISTORY_MS) {
    past = await get("history", {}, signal);
    pastAt_ms = Date.now();
  }
  return past;
}

/* Plots */

/* Bars on top of each other, the first at the bottom; `from` is the time of the first value, null a gap. */
function plot(title, unit, parts, { from, step_s }, top) {
  const length = parts[0].values.length, height = 48;
  const sums = parts[0].values.map((first, place) => first === null ? null : parts.reduce((sum, part) => sum + (part.values[place] ?? 0), 0));
  const highest = Math.max(0, ...sums), most = top ?? Math.max(highest, 1);
  const at = new Date(Date.parse(from) + sums.indexOf(highest) * step_s * 1000).toTimeString().slice(0, 5);
  const says = highest ? `most ${count(Math.round(highest))}${unit} at ${at}` : sums.every((sum) => sum === null) ? "not measured" : "none";
  const y = (value) => +(height - Math.min(value, most) / most * (height - 2)).toFixed(1);
  const floor = sums.map(() => 0);
  const bars = parts.map(({ kind, values }) => el("path", { class: kind, d: values.map((value, place) => {
    if (!value) return "";
    floor[place] += value;
    return `M${place + 0.5} ${y(floor[place] - value)}V${y(floor[place])}`;
  }).join("") }));
  const hours = [0.25, 0.5, 0.75].map((share) => el("path", { class: "grid", d: `M${length * share} 0V${height}` }));
  return el("figure", { "data-key": title },
    el("figcaption", null, el("strong", null, title), " ", muted(says),
      parts.length > 1 && el("span", { class: "legend" }, parts.map(({ kind }) => el("span", { class: kind }, kind)))),
    el("svg", { viewBox: `0 0 ${length} ${height}`, preserveAspectRatio: "none", role: "img",
      "aria-label": `${title}, the last 24 hours: ${says}` }, hours, bars),
    el("p", { class: "axis", "aria-hidden": "true" }, ["24 h ago", "18", "12", "6", "now"].map((text) => el("span", null, text))));
}

function plots({ from, step_s, queued, running, ended }) {
  const ends = ["succeeded", "cancelled", "failed"].map((kind) => ({ kind, values: ended[kind] ?? queued.map(() => null) }));
  return el("div", { class: "plots" },
    plot("Waiting", "", [{ kind: "queued", values: queued }], { from, step_s }),
    plot("Running", "", [{ kind: "running", values: running }], { from, step_s }),
    plot("Ended", ` in ${span(step_s)}`, ends, { from, step_s }));
}

function bar(label, parts, whole) {
  let from = 0;
  const rects = parts.map(([kind, value]) => {
    const width = Math.min(100 - from, value / whole * 100), x = from;
    from += width;
    return el("rect", { class: kind, x: x.toFixed(2), width: width.toFixed(2), height: 8 });
  });
  return el("svg", { class: "bar", viewBox: "0 0 100 8", preserveAspectRatio: "none", role: "img", "aria-label": label }, rects);
}

/* Tables of jobs */

const nameOf = (job) => line(job.name ?? job.image ?? "a job");
const since = (job) => job.finished_at ?? (job.state === "queued" ? null : job.claimed_at) ?? job.submitted_at;

function note(job) {
  const said = job.line && [" ", el("samp", { title: line(job.line) }, line(job.line))];
  if (job.state === "succeeded") return muted(job.run_s === null ? "" : `ran ${span(job.run_s)}`);
  if (!job.finished_at) return [own(job.wait?.reason, line(job.wait?.reason)), said];
  return [own(job.reason ?? job.cancel_reason ?? "", line(job.reason)), said];
}

function jobTable(label, rows, says, picks) {
  const areQueued = rows.every((job) => job.state === "queued");
  const pick = (job) => el("input", { type: "checkbox", "data-pick": job.id, "data-can": job.finished_at ? "retry" : "cancel",
    "data-name": nameOf(job), "aria-label": `Choose ${nameOf(job)} ${short(job.id)}` });
  const all = el("input", { type: "checkbox", "data-do": "pick-all", "aria-label": "Choose all jobs on this page" });
  const heads = [picks && ["pick", all], ["state", "State"], ["job", "Job"], ["user", "User"], ["host", areQueued ? "Queue" : "Host"],
    ["since", "Since"], ["note", says]];
  return table(label, "jobs", heads.filter(Boolean), rows.map((job) => row(job.id,
    picks && ["pick", pick(job)],
    ["state", state(job.state)],
    ["job", link(jobPlace(job.id), own(nameOf(job), nameOf(job))), " ", tag(job.id)],
    ["user", person(job)],
    ["host", own((areQueued ? job.queue : job.host) ?? "–")],
    ["since", time(since(job))],
    ["note", note(job)])));
}

/* The views: each loads what it shows, draws it, and names the commands that say the same. */

const noJobs = () => blank("No jobs yet. This submits one:", command("celery-docker submit busybox echo hello"));

function problems(list, more) {
  if (!list.length) return el("p", null, state("Nothing is wrong", "succeeded"));
  const levels = { fail: "Failure", warn: "Warning" };
  return [el("ul", { class: "problems" }, list.map((problem) => el("li", { class: problem.level },
    el("div", null, el("p", null, el("strong", null, levels[problem.level] ?? line(problem.level)), " ", own(`${problem.what}: ${problem.says}`)),
      problem.advice && el("p", null, el("span", { "aria-hidden": "true" }, "→ "), own(problem.advice))),
    problem.command && command(line(problem.command))))),
  more > 0 && el("p", { class: "muted" }, `and ${count(more)} more, which celery-docker doctor lists`)];
}

function tally({ jobs: counts, slots, slots_used }) {
  const cells = { waiting: [QUEUED, "queued"], running: [ACTIVE, "active"], failed: [FAILED, "failures"],
    succeeded: [["succeeded"], "succeeded"], cancelled: [["cancelled"], "cancelled"] };
  const cell = ([text, [names, word]]) => el("li", { class: total(counts, names) ? text : "none" },
    link(to("/jobs", { state: word }), [el("b", null, count(total(counts, names))), " ", text]));
  return el("ul", { class: "tally", "aria-label": "Jobs by state" }, Object.entries(cells).map(cell),
    el("li", null, link("/hosts", [el("b", null, `${count(slots_used)}/${count(slots)}`), " slots in use"])));
}

const overview = {
  title: () => "Overview",
  async load(_, signal) {
    const few = async (names) => (await jobsOf({ state: names, limit: FEW }, signal)).jobs;
    const [summary, running, failed, queued, day] = await Promise.all(
      [get("summary", {}, signal), few(ACTIVE), few(FAILED), few(QUEUED), pastDay(signal)]);
    await addLines([...running, ...failed], signal);
    return { summary, running, failed, queued, day };
  },
  draw({ summary, running, failed, queued, day }) {
    const { jobs: counts } = summary, part = (key, title, rows, names, word, says, none) => {
      const number = total(counts, names);
      return section(key, title, number > rows.length && link(to("/jobs", { state: word }), `all ${count(number)}`),
        rows.length ? jobTable(title, rows, says) : blank(none));
    };
    announce("problems", summary.problems.length, (number) => number ? `${many(number, "problem")} now` : "Nothing is wrong any more");
    const wrong = section("wrong", "What is wrong now", null, problems(summary.problems, summary.more_problems));
    if (!total(counts, Object.keys(counts))) return [heading("Overview"), wrong, noJobs()];
    return [heading("Overview"), wrong, tally(summary),
      part("running", "Running", running, ACTIVE, "active", "Last line of output", "No job runs."),
      part("failed", "Failed, newest first", failed, FAILED, "failures", "Reason, and last line of output", "No job has failed."),
      part("waiting", "Waiting", queued, QUEUED, "queued", "Why it waits", "No job waits."),
      section("day", "The last 24 hours", null, plots(day))];
  },
  commands: () => ["celery-docker doctor", "celery-docker status"],
};

/* What the filters in an address ask for. */
function filters(query) {
  const word = query.get("state") ?? "", states = GROUPS[word] ?? word.split(",").filter((name) => STATES.includes(name));
  const [name, batch, host] = ["name", "batch", "host"].map((key) => query.get(key));
  return { states, name, batch, host, mine: query.get("mine") === "1", day: query.get("last") === "24h" };
}

/* The same filters from another place on. */
function changed(query, before) {
  const rest = Object.fromEntries([...query].filter(([name]) => name !== "before"));
  return to("/jobs", before ? { ...rest, before } : rest);
}

function filterForm(query) {
  const option = (value, text) => el("option", { value, selected: value === (query.get("state") ?? "") }, text);
  const text = (name, label) => el("label", null, label,
    el("input", { name, value: query.get(name) ?? "", maxlength: 128, autocomplete: "off", spellcheck: "false" }));
  const tick = (name, value, label) => el("label", { class: "tick" }, el("input", { type: "checkbox", name, value, checked: query.get(name) === value }), " ", label);
  return el("form", { class: "filters", "data-do": "filter", "data-keep": true, role: "search", "aria-label": "Filter the jobs" },
    el("label", null, "State", el("select", { name: "state" }, option("", "any"), option("unfinished", "not ended"),
      option("active", "running or starting"), option("failures", "not succeeded"), STATES.map((name) => option(name, words(name))))),
    text("name", "Name"), text("host", "Host"), text("batch", "Batch"),
    el("div", { class: "ticks" }, me?.may_everything && tick("mine", "1", "Mine"), tick("last", "24h", "Last 24 h"),
      el("button", null, "Show"), query.size > 0 && link("/jobs", "Clear")));
}

const jobs = {
  title: (query) => query.get("batch") ? `Batch ${short(query.get("batch"))}` : "Jobs",
  async load(query, signal) {
    const { states, name, batch, host, mine, day } = filters(query);
    const wanted = { state: states.join(), name, batch, host, mine: mine && 1, since: day && DAY_S, before: query.get("before"), limit: ROWS };
    const [page, whole] = await Promise.all([jobsOf(wanted, signal),
      batch && get(`batches/${encodeURIComponent(batch)}`, { fields: BATCH_FIELDS }, signal)]);
    await addLines(page.jobs, signal);
    return { page, whole };
  },
  draw({ page, whole }, query) {
    const rows = page.jobs, picks = Boolean(me.may_cancel && rows.length);
    const none = !query.size ? noJobs() : page.next ? blank("None on this page; there are older ones.")
      : blank("No job is like that. ", link("/jobs", "Show all jobs"));
    return [heading(whole ? ["Batch ", own(whole.name ?? short(whole.id))] : "Jobs", whole && batchRetry(whole)),
      whole && el("div", { class: "one-batch" }, batchFacts(whole)), filterForm(query),
      picks && el("p", { class: "picked" }, button("Cancel", "cancel-picked"), button("Retry", "retry-picked"),
        muted("Choose jobs in the list to cancel or to retry them.")),
      rows.length ? jobTable("Jobs", rows, "Reason, or last line of output", picks) : none,
      pages(query.get("before") && [changed(query), whole ? "← First" : "← Newest"], page.next && [changed(query, page.next), whole ? "Next →" : "Older →"])];
  },
  commands(query) {
    const { states, name, batch, host, mine, day } = filters(query);
    const isOpen = states.length && states.every((each) => GROUPS.unfinished.includes(each));
    const ps = ["celery-docker ps", !isOpen && "--all", ...states.map((each) => `--state ${each}`), batch && `--batch ${quoted(batch)}`];
    const tests = [name && `.name == ${JSON.stringify(name)}`, host && `.host == ${JSON.stringify(host)}`, mine && `.uid == ${me.uid}`,
      day && ".submitted_at >= (now - 86400 | todate)"].filter(Boolean);
    return [[...ps, tests.length && `--json | jq -c ${quoted(`select(${tests.join(" and ")})`)}`].filter(Boolean).join(" ")];
  },
};

const KINDS = { succeeded: ["succeeded"], failed: FAILED, cancelled: ["cancelled"], running: ACTIVE };

const batchBar = ({ counts, done, size }) => bar(`${count(done)} of ${many(size, "job")} ended`,
  Object.entries(KINDS).map(([kind, names]) => [kind, total(counts, names)]), size);

function batchWords({ counts }) {
  const told = Object.entries({ ...KINDS, waiting: QUEUED }).map(([kind, names]) => [kind, total(counts, names)]).filter(([, number]) => number);
  return told.map(([kind, number], place) => [place ? ", " : "", el("span", { class: kind === "failed" && "is failed" }, `${count(number)} ${kind}`)]);
}

function batchPace({ finished_at, submitted_at, jobs_per_s, eta_s }) {
  if (finished_at) return `took ${span(seconds(submitted_at, finished_at))}`;
  const [rate, unit] = jobs_per_s >= 0.1 ? [jobs_per_s, "s"] : [jobs_per_s * 3600, "h"];
  return [jobs_per_s && `${+rate.toFixed(rate < 10 ? 1 : 0)}/${unit}`, eta_s && `${span(eta_s)} left`].filter(Boolean).join(", ");
}

const batchRetry = (batch) => me.may_cancel && batch.retryable > 0
  && button(`Retry failed (${count(batch.retryable)})`, "retry-failed",
    { "data-batch": batch.id, "data-count": batch.retryable, "data-name": line(batch.name ?? short(batch.id)) });

const batchFacts = (batch) => [batchBar(batch),
  el("p", null, `${count(batch.done)} of ${count(batch.size)} ended: `, batchWords(batch)),
  el("p", { class: "muted" }, [batchPace(batch), batch.limit && `at most ${count(batch.limit)} at once`].filter(Boolean).map((text) => `${text} · `),
    "submitted ", time(batch.submitted_at, " ago"), batch.submitted_by && [" by ", own(batch.submitted_by)])];

const batches = {
  title: () => "Batches",
  load: (query, signal) => get("batches", { limit: ROWS, before: query.get("before"), fields: BATCH_FIELDS }, signal),
  draw(page, query) {
    const heads = [["job", "Batch"], ["user", "User"], ["progress", "Progress"], ["number", "Ended"], ["note", "States"], ["pace", "Pace"],
      ["since", "Since"], ["action", "Action"]];
    const rows = page.batches.map((batch) => row(batch.id,
      ["job", link(to("/jobs", { batch: batch.id }), own(batch.name ?? "a batch")), " ", tag(batch.id)], ["user", person(batch)],
      ["progress", batchBar(batch)], ["number", `${count(batch.done)}/${count(batch.size)}`], ["note", batchWords(batch)],
      ["pace", batchPace(batch)], ["since", time(batch.submitted_at)], ["action", batchRetry(batch)]));
    return [heading("Batches"), rows.length ? table("Batches", "batches", heads, rows)
      : blank("No batches yet. This submits one:", command("celery-docker batch --array 1-100 busybox echo {}")),
    pages(query.get("before") && ["/batches", "← Newest"], page.next && [to("/batches", { before: page.next }), "Older →"])];
  },
  commands: () => ["celery-docker watch BATCH", "celery-docker ps --all --json | jq -r '.batch_id // empty' | sort | uniq -c"],
};

function used(label, whole, free, shown) {
  const narrow = el("span", { class: "narrow" }, ` ${label}`);
  if (whole == null || free == null) return muted("–", narrow);
  const inUse = Math.max(0, whole - free), says = `${shown(inUse)} of ${shown(whole)}`;
  return whole > 0 ? [bar(`${label}: ${says} in use`, [[inUse >= whole ? "full" : "running", inUse]], whole),
    el("span", { class: "figure" }, says, narrow)] : muted("none");
}

function hostRow(host, day) {
  const { offer, free, drained } = host, kinds = { ready: "succeeded", drained: "queued", stopping: "queued" };
  const says = ["ready", "silent", "lost"].includes(host.state) ? "" : drained ?? host.status;
  const slots = day.hosts.find((each) => each.host === host.host)?.slots;
  const about = [host.version, host.docker && `Docker ${host.docker}`, host.queues?.join(", ")];
  return row(host.host,
    ["job", el("strong", null, own(host.host)), el("span", { class: "sub muted" }, line(about.filter(Boolean).join(" · ")))],
    ["state", state(host.state, kinds[host.state] ?? "failed"), says && el("span", { class: "sub" }, own(says))],
    ["use", used("slots", host.slots, host.slots - host.running, count)],
    ["use", used("CPUs", offer?.cpus, free?.cpus, (number) => String(+number.toFixed(1)))],
    ["use", used("memory", offer?.memory, free?.memory, bytes)],
    [offer?.gpus.length ? "use" : "use wide", used("GPUs", offer?.gpus.length, free?.gpus, count)],
    [slots ? "day" : "wide", slots ? plot("Slots in use", " %", [{ kind: "running", values: slots }], day, 100) : muted("–")],
    ["since", time(host.heard_at, " ago")]);
}

const hosts = {
  title: () => "Hosts",
  async load(query, signal) {
    const [page, day] = await Promise.all([get("hosts", { limit: ROWS, before: query.get("before"), fields: HOST_FIELDS }, signal), pastDay(signal)]);
    return { page, day };
  },
  draw({ page, day }, query) {
    const heads = [["job", "Host"], ["state", "State"], ["use", "Slots"], ["use", "CPUs"], ["use", "Memory"], ["use", "GPUs"], ["day", "Slots in 24 h"], ["since", "Heard"]];
    return [heading("Hosts"), page.hosts.length ? table("Hosts", "hosts", heads, page.hosts.map((host) => hostRow(host, day)))
      : blank("No host has reported. On each one that is to run jobs:", command("systemctl enable --now celery-worker")),
    pages(query.get("before") && ["/hosts", "← First"], page.next && [to("/hosts", { before: page.next }), "Next →"])];
  },
  commands: () => ["celery-docker workers"],
};

/* One job. Nothing of its environment, its script or its standard input is shown: those may hold secrets. */

const fact = (name, ...value) => el("div", { class: `fact-${name.toLowerCase()}` }, el("dt", null, name), el("dd", null, value));
const codes = (texts) => texts.filter(Boolean).map((text) => [code(line(text)), " "]);
const jobLinks = (ids) => ids.map((id) => [link(jobPlace(id), code(short(id))), " "]);

/* How it ended, or why it does not run, in words behind the state. */
function ending(job) {
  const took = job.state === "succeeded" && job.run_s != null && `in ${span(job.run_s)}`, tries = list(job.attempts).length;
  const reason = job.wait?.reason ?? (took ? "" : job.reason ?? job.cancel_reason);
  const parts = [reason && own(reason), took, job.host && job.state !== "queued" && ["on ", own(job.host)],
    job.finished_at && tries > 1 && `after ${tries} attempts`, job.finished_at ? time(job.finished_at, " ago") : ["for ", time(since(job))]];
  return parts.filter(Boolean).map((part, place) => [place ? ", " : "", part]);
}

function attempts(job) {
  const listed = list(job.attempts), isUnder = !job.finished_at && job.state !== "queued" && !listed.some((each) => each.attempt === job.attempt);
  const all = [...listed, ...(isUnder ? [{ attempt: job.attempt, host: job.host, started_at: job.claimed_at }] : [])];
  const rows = all.map(({ attempt, host, started_at, finished_at, exit_code, reason }) => row(String(attempt),
    ["number", String(attempt)], ["host", own(host)], ["since", time(started_at, " ago")],
    ["number", started_at && finished_at ? span(seconds(started_at, finished_at)) : "–"], ["number wide", exit_code ?? "–"],
    ["note", own(reason ?? (exit_code === 0 ? "succeeded" : finished_at ? "" : words(job.state)))]));
  const heads = [["number", "No."], ["host", "Host"], ["since", "Began"], ["number", "Took"], ["number wide", "Exit code"], ["note", "End"]];
  return rows.length > 0 && section("attempts", "Attempts", null, table("Attempts", "attempts", heads, rows));
}

function mounts({ inputpath, outputpath, mounts: others }) {
  const usual = [[inputpath, "/input", true], [outputpath, "/output", false]].map(([source, target, readonly]) => ({ source, target, readonly }));
  const rows = [...usual, ...list(others)].filter(({ source }) => source).map(({ source, target, readonly }, place) => row(String(place),
    ["path", code(line(source))], ["path", code(line(target))], ["note", readonly ? "read only" : "writable"]));
  const heads = [["path", "On the host"], ["path", "In the container"], ["note", "Access"]];
  return rows.length > 0 && section("mounts", "Mounts", null, table("Mounts", "mounts", heads, rows));
}

function facts(job) {
  const spec = job.spec ?? {}, { queue_s, cpu_s, memory_peak_bytes } = job.receipt ?? {}, { wait } = job;
  const text = [spec.entrypoint, spec.command].flat().filter((word) => word != null).map((word) => quoted(line(word))).join(" ");
  const asks = [spec.cpus && `${line(spec.cpus)} CPUs`, spec.memory && shown(spec.memory, bytes), spec.gpus && `GPUs: ${line(spec.gpus)}`,
    spec.timeout && `at most ${shown(spec.timeout, span)}`];
  const use = [queue_s != null && `waited ${span(queue_s)}`, job.run_s != null && `ran ${span(job.run_s)}`, cpu_s != null && `CPU ${span(cpu_s)}`,
    memory_peak_bytes != null && `memory up to ${bytes(memory_peak_bytes)}`];
  const several = (name, parts) => parts.some(Boolean) && fact(name, parts.filter(Boolean).join(", "));
  return el("dl", { class: "facts" },
    fact("Command", text ? command(text) : muted(spec.script != null ? "a script" : "the image's own")),
    fact("Image", code(line(job.image ?? spec.image ?? "–"))),
    fact("Submitted", time(job.submitted_at, " ago"), job.submitted_by && [" by ", own(job.submitted_by)]),
    fact("Host", job.host ? link(to("/jobs", { host: job.host }), own(job.host)) : "–"),
    fact("Queue", own(job.queue ?? "–"), wait?.jobs_before != null && muted(`, ${many(wait.jobs_before, "job")} before it`)),
    several("Asks for", asks), several("Use", use),
    spec.user && fact("Runs as", code(line(spec.user))),
    job.batch_id && fact("Batch", link(to("/jobs", { batch: job.batch_id }), code(short(job.batch_id))), job.batch_index != null && muted(`, number ${job.batch_index}`)),
    job.retry_of && fact("Retry of", jobLinks([job.retry_of])),
    list(job.after).length > 0 && fact("After", jobLinks(list(job.after).slice(0, 20))),
    wait?.next_try_at && fact("Next try", time(wait.next_try_at)),
    (spec.logoutfile || spec.logerrfile) && fact("Log files", codes([spec.logoutfile, spec.logerrfile])),
    Object.keys(job.labels ?? {}).length > 0 && fact("Labels", codes(Object.entries(job.labels).slice(0, 50).map((pair) => pair.join("=")))));
}

/* The output of the job that is shown: lines in the order in which they began, each of one stream. */
let output = null;

const ESCAPES = /\u001b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\u0007\u001b]*(?:\u0007|\u001b\\)|[@-Z\\-_])/g;
const shownLine = (raw) => clean(raw.slice(-20_000).replace(ESCAPES, "").replace(/\r+$/, "").split("\r").at(-1));

function outputPanel(job) {
  const node = el("pre", { class: "log", tabindex: "0", role: "region", "aria-label": "Lines of output" });
  const stream = (value, text) => el("label", null, el("input", { type: "radio", name: "stream", value, checked: !value, "data-do": "stream" }), " ", text);
  output = { id: job.id, node, after: null, isOver: false, attempt: 0, characters: 0, streams: {} };
  const panel = section("output", "Output", null,
    el("fieldset", null, el("legend", { class: "hidden" }, "Streams"), stream("", "Both"), stream("out", "Standard output"), stream("err", "Standard error"),
      el("label", null, el("input", { type: "checkbox", id: "follow", checked: true }), " Follow")),
    node, el("p", { class: "muted", id: "log-state" }, "Loading…"));
  panel.setAttribute("data-keep", "");
  return panel;
}

function append(log, kind, text) {
  const node = el("span", { class: kind }, text);
  log.node.append(node);
  log.characters += text.length;
  while (log.characters > LOG_CHARACTERS && log.node.childNodes.length > 1) {
    log.characters -= log.node.firstChild.textContent.length;
    log.node.firstChild.remove();
  }
  return node;
}

function addPiece(log, { stream: name, attempt, offset, base64 }) {
  if (attempt !== log.attempt) {
    if (log.attempt || attempt > 1) append(log, "mark", `attempt ${attempt}`);
    Object.assign(log, { attempt, streams: {} });
  }
  const stream = log.streams[name] ??= { decoder: new TextDecoder(), end: 0, open: null };
  if (offset > stream.end) {
    append(log, "mark", `${bytes(offset - stream.end)} of ${line(name)} are not kept here`);
    stream.open = null;
  }
  const data = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  stream.end = offset + data.length;
  stream.decoder.decode(data, { stream: true }).split("\n").forEach((part, place, parts) => {
    if (place) stream.open = null;
    if (stream.open) {
      stream.open.raw += part;
      log.characters += part.length;
      stream.open.node.textContent = shownLine(stream.open.raw);
    } else if (part || place < parts.length - 1) stream.open = { raw: part, node: append(log, name === "stderr" ? "err" : "out", shownLine(part)) };
  });
}

async function readOutput(job, signal) {
  const log = output;
  for (let number = 0; !log.isOver && number < LOG_ANSWERS; number++) {
    const { pieces, last, has_ended } = await get(`jobs/${encodeURIComponent(job.id)}/logs`, { after: log.after }, signal);
    if (log !== output) return;
    pieces.forEach((piece) => addPiece(log, piece));
    log.after = last;
    log.isOver = has_ended && !pieces.length;
    if (!pieces.length) break;
  }
  if (byId("follow").checked) log.node.scrollTop = log.node.scrollHeight;
  const text = !log.isOver ? "More follows as the job prints it." : log.characters ? "The job has ended. This is all that is kept here."
    : "The job printed nothing, or its output is no longer kept here.";
  if (byId("log-state").textContent !== text) byId("log-state").textContent = text;
}

const job = {
  title: (_, id) => `Job ${short(id)}`,
  load: (_, signal, id) => get(`jobs/${encodeURIComponent(id)}`, { env: "names" }, signal),
  draw(one, _, id) {
    const act = (text, does) => el("p", null, button(text, does, { "data-id": id, "data-name": nameOf(one) }));
    announce(`state of ${id}`, one.state, (now) => `The job is ${words(now)} now`);
    return [heading([own(nameOf(one)), " ", tag(id)],
      me.may_cancel && (one.finished_at ? act("Retry", "retry-one") : !one.cancelled_at && act("Cancel", "cancel-one"))),
    el("p", { class: "ending" }, state(one.state), " ", ending(one)), facts(one),
    output?.id === id && byId("h-output") ? el("section", { "data-key": "output" }) : outputPanel(one), attempts(one), mounts(one.spec ?? {})];
  },
  after: readOutput,
  wait_s: (one) => one.finished_at && output.isOver ? null : one.state === "running" ? LOG_WAIT_S : WAIT_S,
  commands: (_, id) => [`celery-docker inspect ${quoted(id)}`, `celery-docker logs -f ${quoted(id)}`],
};

/* Where we are, and what is there */

function here() {
  const [path, query] = location.hash.slice(1).split("?", 2), [, first, second] = path.split("/");
  const view = first === "jobs" && second ? job : { jobs, batches, hosts }[first] ?? overview;
  let id = second;
  try {
    id = decodeURIComponent(second ?? "");
  } catch { /* Then it is no id, as the answer will say. */ }
  return { view, id, query: new URLSearchParams(query), tab: view === overview ? "/" : `/${first}` };
}

let me = null, timer = 0, misses = 0, asking = null, drawn = null, shownAt = null;
const known = new Map();

const say = (text) => { byId("said").textContent = text; };

/* Say a change aloud; the first value is none. */
function announce(topic, value, sentence) {
  if (known.has(topic) && known.get(topic) !== value) say(sentence(value));
  known.set(topic, value);
}

function show(identity) {
  me = identity;
  byId("who").replaceChildren(me ? own(me.name) : "", me?.may_everything ? " (sees all jobs)" : "");
  byId("logout").hidden = !me?.session_until;
}

function health(kind, text) {
  const node = byId("health");
  node.className = kind;
  if (node.textContent !== text) node.textContent = text;
  byId("as-of").textContent = shownAt ? `${kind === "live" ? "" : "as of "}${shownAt.toLocaleTimeString("sv")}` : "";
}

function place(nodes, isNew) {
  const main = byId("main"), fresh = el("main", { id: "main", tabindex: "-1" }, nodes), hadFocus = main.contains(document.activeElement);
  isNew ? main.replaceChildren(...fresh.childNodes) : morph(main, fresh);
  // The row with the focus has gone.
  if (!isNew && hadFocus && document.activeElement === document.body) main.querySelector("h1").focus();
  showPicks();
}

function frame({ view, query, id, tab }) {
  document.title = `${view.title(query, id)} · celery-docker`;
  for (const each of document.querySelectorAll("header nav a")) {
    each.hash === `#${tab}` ? each.setAttribute("aria-current", "page") : each.removeAttribute("aria-current");
  }
  morph(byId("foot"), el("footer", { id: "foot" }, muted("The same in a shell"), view.commands(query, id).map(command)));
}

function signedOut(error) {
  const wasIn = me !== null;
  drawn = shownAt = null;
  known.clear();
  show(null);
  health("out", "Signed out");
  document.title = "Sign in · celery-docker";
  byId("foot").replaceChildren();
  place([heading("Sign in"), el("form", { class: "login", method: "post", "data-do": "login" },
    el("label", null, "Token", el("input", { type: "password", name: "token", id: "token", required: true, autocomplete: "current-password", "aria-describedby": "login-says" })),
    el("p", { id: "login-says", role: "alert" }, wasIn && error.message), el("button", { class: "do" }, "Sign in"),
    el("p", { class: "muted" }, "An administrator makes a token with:"), command("celery-docker token add NAME --rights read,submit,cancel"))], true);
  byId("token").focus();
}

/* Ask for what the view shows, draw it, and come back while the page is seen. */
async function refresh(isArrival) {
  clearTimeout(timer);
  asking?.abort();
  if (document.hidden) return;
  const mine = asking = new AbortController(), spot = here(), at = location.hash, { view, query, id } = spot, { signal } = mine;
  let wait_s = WAIT_S;
  try {
    if (!me) show(await ask(`${API}/identity`, { signal }));
    const data = await view.load(query, signal, id);
    // The address changes before the page hears of it.
    if (mine !== asking || at !== location.hash) return;
    const isNew = drawn !== at;
    place(view.draw(data, query, id), isNew);
    document.body.dataset.shown = drawn = at;
    frame(spot);
    if (isNew && isArrival === true) document.querySelector("#main h1").focus({ preventScroll: true });
    await view.after?.(data, signal);
    if (mine !== asking) return;
    misses = 0;
    shownAt = new Date();
    health("live", "Live");
    wait_s = view.wait_s ? view.wait_s(data) : WAIT_S;
  } catch (error) {
    if (mine !== asking || signal.aborted) return;
    if (error.status === 401) return signedOut(error);
    if (!(error instanceof Failure)) console.error(error);
    wait_s = Math.min(WAIT_S * 2 ** ++misses, LONGEST_WAIT_S);
    trouble(error, wait_s, spot);
  }
  if (wait_s !== null) timer = setTimeout(refresh, wait_s * 1000);
}

function trouble(error, wait_s, spot) {
  const away = { 0: "The service does not answer", 503: "Redis is away" }[error.status];
  health("away", away ?? "Not shown");
  if (away && drawn === location.hash) return;
  drawn = null;
  frame(spot);
  place([heading(spot.view.title(spot.query, spot.id)), blank(el("strong", null, away ?? (error.status === 404 ? "It is not there" : "This cannot be shown")), ": ", own(error.message), ". ",
    away ? `The next try is in ${span(wait_s)}.` : link("/jobs", "Show all jobs"))], true);
}

/* What people do */

const picked = (verb) => [...document.querySelectorAll(`[data-pick][data-can=${verb}]:checked`)];

function showPicks() {
  for (const [verb, name] of [["cancel", "Cancel"], ["retry", "Retry"]]) {
    const node = document.querySelector(`[data-do=${verb}-picked]`), number = picked(verb).length;
    if (node) Object.assign(node, { disabled: !number, textContent: number ? `${name} ${many(number, "job")}` : name });
  }
}

/* Ask once before anything changes, with the number in the question and on the button. */
function confirmed(verb, what, names, more) {
  const dialog = byId("ask"), rest = names.length - 5;
  byId("ask-title").textContent = `${verb} ${what}?`;
  byId("ask-yes").textContent = `${verb} ${what}`;
  byId("ask-text").replaceChildren(el("ul", null, names.slice(0, 5).map((name) => el("li", null, own(name)))),
    el("p", null, rest > 0 && `and ${count(rest)} more. `, more));
  dialog.returnValue = "no";
  dialog.showModal();
  // While it is open, that is the event of the question before.
  return new Promise((answer) => { dialog.onclose = () => dialog.open || answer(dialog.returnValue === "yes"); });
}

async function change(path, body, told) {
  try {
    const answer = await ask(`${API}/${path}`, { method: "POST", body });
    say(told(answer));
    document.querySelectorAll("[data-pick]:checked").forEach((box) => { box.checked = false; });
    refresh();
    return answer;
  } catch (error) {
    say(`Not done: ${error.message}`);
    return error.status === 401 ? signedOut(error) : refresh();
  }
}

async function cancel(ids, names) {
  if (!await confirmed("Cancel", many(ids.length, "job"), names, "What runs of them is stopped. Cancelled jobs can be retried.")) return;
  await change("cancel", { ids }, (answer) => `${many(answer.jobs.length, "job")} will be cancelled`);
}

async function retry(ids, names) {
  if (!await confirmed("Retry", many(ids.length, "job"), names, "Each is queued again, under a new id.")) return;
  const answer = await change("retry", { ids }, (told) => `${many(told.jobs.length, "job")} queued again`);
  if (answer && ids.length === 1) location.hash = jobPlace(answer.jobs[0].id);
}

async function retryFailed({ batch, count: number, name }) {
  if (!await confirmed("Retry", many(+number, "failed job"), [`batch ${name}`], "Each takes the place of the failed one in its batch.")) return;
  await change(`batches/${encodeURIComponent(batch)}/retry-failed`, { expected: +number }, (answer) => `${many(answer.count, "job")} queued again`);
}

const both = (does, boxes) => does(boxes.map((box) => box.dataset.pick), boxes.map((box) => `${box.dataset.name} ${short(box.dataset.pick)}`));
const one = (does) => ({ dataset: { id, name } }) => does([id], [`${name} ${short(id)}`]);

const clicks = {
  skip: () => byId("main").focus(),
  copy: async ({ dataset }) => {
    // Without TLS a browser has no clipboard, but for this computer's own pages.
    const isDone = await navigator.clipboard?.writeText(dataset.text).then(() => true, () => false);
    say(isDone ? "Copied" : "Not copied: the browser forbids it");
  },
  logout: () => ask("/logout", { method: "POST" }).catch(() => null).then(() => show(null)).then(refresh),
  "cancel-one": one(cancel),
  "retry-one": one(retry),
  "retry-failed": ({ dataset }) => retryFailed(dataset),
  "cancel-picked": () => both(cancel, picked("cancel")),
  "retry-picked": () => both(retry, picked("retry")),
};

const changes = {
  "pick-all": (box) => document.querySelectorAll("[data-pick]").forEach((each) => { each.checked = box.checked; }),
  stream: (radio) => { output.node.dataset.only = radio.value; },
};

const forms = {
  filter: (form) => { location.hash = to("/jobs", Object.fromEntries([...new FormData(form)].filter(([, value]) => value))); },
  async login({ elements: { token } }) {
    try {
      show(await ask("/login", { method: "POST", body: { token: token.value.trim() } }));
      refresh(true);
    } catch (error) {
      byId("login-says").textContent = error.message;
      token.select();
    }
  },
};

document.addEventListener("click", (event) => {
  const node = event.target.closest("[data-do]"), does = clicks[node?.dataset.do];
  if (!does) return;
  event.preventDefault();
  does(node);
});
document.addEventListener("change", ({ target }) => {
  changes[target.dataset.do]?.(target);
  showPicks();
});
document.addEventListener("submit", (event) => {
  const does = forms[event.target.dataset.do];
  if (!does) return;
  event.preventDefault();
  does(event.target);
});
addEventListener("hashchange", () => {
  output = null;
  misses = 0;
  refresh(true);
});
document.addEventListener("visibilitychange", () => {
  // A token that is being typed stays.
  if (!byId("token")?.value) refresh();
});
refresh();
