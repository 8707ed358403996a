// What people do with the demo. Each scenario is one story in a browser of its own; what it returns goes to the Go test.
import assert from "node:assert/strict";
import { heading, reference, signIn } from "./lib.mjs";

// staff: the first minutes of somebody on the staff.
export async function staff(stage) {
  const person = await stage.person();
  const page = await person.newPage();

  await page.goto(stage.origin("wiki") + "/p/first-day");
  await heading(page, "Sign in");
  await stage.picture(page, "provider-login");
  await signIn(page, "ines", "wrong");
  await page.getByRole("alert").waitFor();
  await signIn(page, "ines");
  await heading(page, "First day");
  assert.equal(page.url(), stage.origin("wiki") + "/p/first-day", "signing in leads back to where it started");

  await page.locator("#live-state", { hasText: /^live$/ }).waitFor();
  await page.locator("#people li", { hasText: "Ines Okafor" }).waitFor();
  await page.getByLabel("Say something").fill("ahoy");
  await page.getByRole("button", { name: "Send" }).click();
  await page.locator("#chat p", { hasText: "Ines Okafor ahoy" }).waitFor();

  const changes = page.locator("#feed li");
  await changes.nth(3).waitFor();
  const editor = await person.newPage();
  for (const title of ["tide-table", "lost-and-found"]) {
    await editor.goto(`${stage.origin("wiki")}/p/${title}/edit`);
    await editor.getByLabel("Text").fill("Written while others watch. See [[Welcome]].");
    await editor.getByRole("button", { name: "Save" }).click();
    await page.locator("#feed li").first().getByText(title.replaceAll("-", " "), { exact: false }).waitFor();
  }
  await stage.picture(page, "wiki");
  await stage.picture(editor, "wiki-article");
  await editor.close();

  const answer = await page.goto(stage.origin("payroll") + "/");
  assert.equal(answer.status(), 403);
  await heading(page, "Payroll is not open to you");
  const why = await page.locator("section[aria-labelledby=why] p").innerText();
  const refusal = { reference: await reference(page), why };
  await stage.picture(page, "denied");
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "Your apps", "the first stop of the keyboard");

  await page.keyboard.press("Enter");
  await heading(page, "Your apps");
  await stage.picture(page, "portal");
  assert.deepEqual(await tiles(page), ["Inspect", "Wiki"]);

  await page.getByRole("link", { name: "Inspect" }).click();
  await page.getByText("Genuine: signed by the gateway").waitFor();
  const seen = await page.locator("main").innerText();
  assert.ok(!seen.includes("__Host-sallyport"), "the app sees the session cookie");
  assert.ok(seen.includes("demo|ines") && seen.includes("X-Sallyport-Groups"), "the app is not told who asks");
  await stage.picture(page, "inspect");
  return refusal;
}

// groups: the portal shows what each person may open, and the policy means it.
export async function groups(stage) {
  const stories = {
    ravi: { tiles: ["Inspect", "Payroll", "Wiki"], payroll: "Salaries", reports: "Reports" },
    lena: { tiles: ["Inspect", "Wiki"], payroll: "Payroll is not open to you", reports: "Reports" },
    tomas: { tiles: ["Inspect", "Wiki"], payroll: "Payroll is not open to you", reports: "Payroll is not open to you" },
    noor: { tiles: [], payroll: "Payroll is not open to you", reports: "Payroll is not open to you" },
  };
  for (const [name, story] of Object.entries(stories)) {
    const person = await stage.person();
    const page = await person.newPage();
    await page.goto(stage.origin("auth") + "/");
    await signIn(page, name);
    await heading(page, "Your apps");
    assert.deepEqual(await tiles(page), story.tiles, `${name}'s portal`);
    if (story.tiles.length === 0) await stage.picture(page, "portal-empty");
    await page.goto(stage.origin("payroll") + "/");
    await heading(page, story.payroll);
    if (name === "ravi") await stage.picture(page, "payroll");
    await page.goto(stage.origin("payroll") + "/reports/");
    await heading(page, story.reports);
    if (name === "tomas") await contractor(stage, page);
    await person.close();
  }
}

// contractor may read the wiki and not write it.
async function contractor(stage, page) {
  await page.goto(stage.origin("wiki") + "/p/welcome/edit");
  await page.getByLabel("Text").fill("I was here.");
  await page.getByRole("button", { name: "Save" }).click();
  await heading(page, "Wiki is not open to you");
  await page.goto(stage.origin("wiki") + "/p/welcome");
  assert.ok(!(await page.locator("main").innerText()).includes("I was here."));
}

// tabs: several tabs opened before anybody signed in all come to where they wanted, in whatever order they are finished.
export async function tabs(stage) {
  const person = await stage.person();
  const targets = [
    [stage.origin("wiki") + "/p/quarter-close", "Quarter close"],
    [stage.origin("inspect") + "/some/where?x=1", "What this app receives"],
    [stage.origin("auth") + "/", "Your apps"],
    [stage.origin("wiki") + "/p/welcome", "Welcome"],
    [stage.origin("payroll") + "/reports/", "Reports"],
  ];
  const open = await Promise.all(targets.map(async ([url]) => {
    const page = await person.newPage();
    await page.goto(url);
    await heading(page, "Sign in");
    return page;
  }));
  for (const i of [3, 0, 4, 2, 1]) {
    await signIn(open[i], "lena");
    await heading(open[i], targets[i][1]);
    assert.equal(open[i].url(), targets[i][0]);
  }
  const late = await person.newPage();
  await late.goto(stage.origin("inspect") + "/again");
  await heading(late, "What this app receives");
}

// signOut: everywhere means everywhere, for open streams too.
export async function signOut(stage) {
  const person = await stage.person();
  const wiki = await person.newPage();
  await wiki.goto(stage.origin("wiki") + "/p/welcome");
  await signIn(wiki, "ines");
  await wiki.locator("#live-state", { hasText: /^live$/ }).waitFor();

  const form = await person.newPage();
  await form.goto(stage.origin("wiki") + "/p/welcome/edit");

  const portal = await person.newPage();
  await portal.goto(stage.origin("auth") + "/");
  await portal.getByRole("button", { name: "Sign out everywhere" }).click();
  await heading(portal, "You are signed out everywhere");
  const at = Date.now();
  await wiki.locator("#live-state", { hasText: "not connected" }).waitFor({ timeout: 20000 }); // two seconds are promised, a busy machine gets more
  const felt = Date.now() - at;
  await stage.picture(portal, "signed-out");

  await form.getByLabel("Text").fill("Sent too late.");
  await form.getByRole("button", { name: "Save" }).click();
  await heading(form, "You are not signed in any more");
  await stage.picture(form, "form-too-late");

  await wiki.goto(stage.origin("wiki") + "/p/welcome");
  await heading(wiki, "Sign in");
  await portal.getByRole("link", { name: "Sign in again" }).click();
  await heading(portal, "Sign in");

  await signIn(wiki, "ravi"); // another person on the same browser
  await heading(wiki, "Welcome");
  await wiki.locator("#people li", { hasText: "Ravi Menon" }).waitFor();
  await wiki.getByRole("button", { name: "Sign out" }).click(); // the app's own button
  await heading(wiki, "You are signed out everywhere");
  return { streamClosedAfterMilliseconds: felt };
}

// connection tells what the browser and the gateway agreed on.
export async function connection(stage) {
  const person = await stage.person();
  const page = await person.newPage();
  const session = await person.newCDPSession(page);
  await session.send("Network.enable");
  const answered = new Promise((resolve) => session.once("Network.responseReceived", ({ response }) => resolve(response)));
  await page.goto(stage.origin("auth") + "/.sallyport/nothing");
  const { securityDetails } = await answered;
  return { protocol: securityDetails.protocol, keyExchangeGroup: securityDetails.keyExchangeGroup };
}

// withoutScripts: our own pages work with JavaScript switched off.
export async function withoutScripts(stage) {
  const person = await stage.person({ javaScriptEnabled: false });
  const page = await person.newPage();
  await page.goto(stage.origin("payroll") + "/");
  await signIn(page, "ines");
  await heading(page, "Payroll is not open to you");
  await page.getByRole("link", { name: "Your apps" }).click();
  await heading(page, "Your apps");
  await page.getByRole("button", { name: "Sign out everywhere" }).click();
  await heading(page, "You are signed out everywhere");

  await page.goto(stage.origin("payroll") + "/"); // whoever is refused can come back as somebody else
  await signIn(page, "ines");
  await heading(page, "Payroll is not open to you");
  await page.getByRole("button", { name: "Sign out" }).click();
  await heading(page, "You are signed out everywhere");
  await page.goto(stage.origin("payroll") + "/");
  await signIn(page, "ravi");
  await heading(page, "Salaries");
}

// problems: what people see when something is wrong, and that what a stranger wrote stays text.
export async function problems(stage) {
  const person = await stage.person();
  const page = await person.newPage();
  const stale = await page.goto(stage.origin("auth") + "/.sallyport/callback/demo?code=x&state=y&error_description=%3Cscript%3Ealert(1)%3C/script%3E");
  assert.ok(stale.status() >= 400, "a callback that nobody started");
  await page.locator("h1").waitFor();
  assert.ok(!(await page.content()).includes("alert(1)"), "the page repeats what the address says");
  await stage.picture(page, "sign-in-problem");

  assert.equal((await page.goto(stage.origin("auth") + "/.sallyport/nothing")).status(), 404);
  await stage.picture(page, "not-found");

  await page.goto(stage.origin("wiki") + "/p/welcome");
  await signIn(page, "noor");
  await heading(page, "Wiki is not open to you");
  await page.goto(stage.origin("wiki") + "/%3Cscript%3Edocument.title='x'%3C/script%3E/a%E2%80%AEgnp.exe");
  const asked = await page.locator("dt:text-is('Asked for') + dd").innerText();
  assert.ok(asked.includes("<script>"), `the path is shown as ${asked}`);
  assert.ok(asked.includes("U+202E") || asked.includes("%E2%80%AE"), `a bidi mark is not visible in ${asked}`);
  assert.notEqual(await page.title(), "x");
  await framed(stage);
}

// framed: inside another page there is no sign-in, only a link that leads to one.
async function framed(stage) {
  const person = await stage.person();
  const page = await person.newPage();
  await page.setContent(`<h1>Dashboard</h1><iframe title="wiki" width="700" height="500" src="${stage.origin("wiki")}/p/welcome"></iframe>`);
  const frame = page.frameLocator("iframe");
  await frame.getByRole("heading", { name: "Sign in to continue" }).waitFor();
  const link = frame.getByRole("link", { name: "Open in a new tab" });
  const [opened] = await Promise.all([person.waitForEvent("page"), link.click()]);
  await heading(opened, "Sign in");
}

// unavailable: an app that does not answer. The Go test has pointed payroll at a dead port.
export async function unavailable(stage) {
  const person = await stage.person();
  const page = await person.newPage();
  await page.goto(stage.origin("payroll") + "/");
  await signIn(page, "ravi");
  await heading(page, "Payroll is not answering");
  await stage.picture(page, "unavailable");
  return { reference: await reference(page) };
}

// silent: an app whose own policy refuses without a word. The Go test has made inspect one that wants a managed device.
export async function silent(stage) {
  const person = await stage.person();
  const page = await person.newPage();
  await page.goto(stage.origin("inspect") + "/");
  await signIn(page, "ines");
  await heading(page, "Inspect is not open to you");
  await stage.picture(page, "denied-silently");
  return { why: await page.locator("main").innerText() };
}

async function tiles(page) {
  return (await page.locator(".tile .app").allInnerTexts()).map((text) => text.trim()).sort();
}


// ordinary: what pages of ordinary apps do. Everything is tried; the Go test knows what should come of it.
export async function ordinary(stage) {
  const person = await stage.person();
  const page = await person.newPage();
  const [shop, media, fonts] = ["wiki", "payroll", "public"].map((label) => stage.origin(label));
  const found = {};
  const tried = async (name, what) => {
    found[name] = String(await what().catch((error) => `failed: ${error.message.split("\n")[0].replace("page.evaluate: ", "")}`));
  };
  const inPage = (name, what, argument) => tried(name, () => page.evaluate(what, argument));

  await page.goto(media + "/");
  await page.goto(shop + "/");
  for (const method of ["POST", "PUT", "PATCH", "DELETE"]) {
    await inPage(`fetch ${method}`, async (method) => {
      const token = document.cookie.match(/XSRF-TOKEN=(\w+)/)?.[1] ?? "none";
      const answer = await fetch("/api/item/1?q=a+b&r[]=ü", { method, body: JSON.stringify({ n: 1 }), headers: { "Content-Type": "application/json", "X-XSRF-TOKEN": token } });
      const said = await answer.json();
      return `${answer.status} ${said.method} ${said.body} ${said.token}`;
    }, method);
  }
  await inPage("cookies that scripts see", () => document.cookie.split("; ").sort().join(" "));
  await inPage("cookies that the app sees", async () => (await (await fetch("/api/")).json()).cookies);
  await inPage("upload", async () => {
    const form = new FormData();
    form.append("note", "it's; a \"note\"");
    form.append("file", new File([new Uint8Array(300000)], "Bericht – 100% (2).pdf"));
    return (await fetch("/upload", { method: "POST", body: form })).text();
  });
  await tried("download", async () => {
    const [download] = await Promise.all([page.waitForEvent("download"), page.locator("#report").click()]);
    return download.suggestedFilename();
  });
  await inPage("WebSocket", () => new Promise((done) => {
    const socket = new WebSocket("/socket");
    socket.onopen = () => socket.send("ahoy");
    socket.onmessage = (message) => done(message.data);
    socket.onerror = () => done("error");
  }));
  await inPage("server-sent events", () => new Promise((done) => {
    const events = new EventSource("/events");
    events.onmessage = (message) => { if (message.data === "2") { events.close(); done("three"); } };
    events.onerror = () => done("error");
  }));
  await inPage("frame of its own origin", () => document.querySelector("#frame").contentDocument.querySelector("h1").textContent);
  await inPage("localStorage", () => { localStorage.setItem("a", "kept"); return localStorage.getItem("a"); });
  await inPage("blob in a frame", () => new Promise((done) => {
    const frame = document.createElement("iframe");
    frame.onload = () => done(frame.contentDocument.body.textContent);
    frame.src = URL.createObjectURL(new Blob(["a blob"], { type: "text/html" }));
    document.body.append(frame);
  }));
  await inPage("blob worker", () => new Promise((done) => {
    const worker = new Worker(URL.createObjectURL(new Blob(["postMessage('works')"], { type: "text/javascript" })));
    worker.onmessage = (message) => done(message.data);
    worker.onerror = () => done("error");
  }));
  await inPage("sendBeacon", () => navigator.sendBeacon("/api/beacon", "seen"));
  for (const [name, origin] of [["own", shop], ["sibling", media]]) {
    await tried(`pop-up of ${name} origin`, async () => {
      const opened = person.waitForEvent("page");
      await page.evaluate((address) => { open(address, "_blank", "width=300,height=300"); }, origin + "/popup");
      const popup = await opened;
      await popup.locator("h1").waitFor();
      const said = await popup.evaluate(() => (opener ? "has its opener" : "has none"));
      await popup.close();
      return said;
    });
  }
  await inPage("image of a sibling", (address) => new Promise((done) => {
    const image = new Image();
    image.onload = () => done(`${image.width} wide`);
    image.onerror = () => done("error");
    image.src = address;
  }), media + "/pic.svg");
  await inPage("script of a sibling", (address) => new Promise((done) => {
    const script = document.createElement("script");
    script.onload = () => done(window.fromSibling);
    script.onerror = () => done("error");
    script.src = address;
    document.head.append(script);
  }), media + "/lib.js");
  const fetching = async ([address, options]) => {
    const answer = await fetch(address, options);
    return `${answer.status} ${(await answer.text()).length > 0}`;
  };
  await inPage("fetch of a sibling with credentials", fetching, [media + "/api/x", { credentials: "include" }]);
  await inPage("PUT to a sibling with credentials", fetching, [media + "/api/x", { method: "PUT", body: "{}", headers: { "Content-Type": "application/json" }, credentials: "include" }]);
  await inPage("DELETE to a sibling, not listed", fetching, [media + "/api/x", { method: "DELETE", credentials: "include" }]);
  await inPage("fetch of a sibling without credentials", fetching, [media + "/api/x", {}]);
  await inPage("fetch of a public sibling", fetching, [fonts + "/api/x", {}]);
  await inPage("font of a public sibling", fetching, [fonts + "/font.woff2", { mode: "cors" }]);
  await tried("frame of a sibling", () => page.evaluate((address) => new Promise((done) => {
    const frame = document.createElement("iframe");
    frame.onload = () => { try { done(frame.contentDocument ? "own" : "other origin (blocked or shown)"); } catch { done("thrown"); } };
    frame.src = address;
    document.body.append(frame);
  }), media + "/frame"));
  found["frame of a sibling"] = stage.complaints.splice(0).map((text) => /frame-ancestors 'self'/.exec(text)?.[0] ?? text).join("; ");
  await inPage("service worker", async () => {
    await navigator.serviceWorker.register("/worker.js");
    await navigator.serviceWorker.ready;
    while (!navigator.serviceWorker.controller) await new Promise((r) => navigator.serviceWorker.addEventListener("controllerchange", r, { once: true }));
    return (await fetch("/made-up")).text();
  });
  await inPage("POST through a service worker", fetching, ["/api/w", { method: "POST", body: "x" }]);
  await tried("reload through a service worker", async () => (await page.reload()).status());

  await tried("page through a service worker", async () => {
    await page.goto(shop + "/asked");
    return page.locator("h1").innerText();
  });
  await tried("page through a service worker without a session", async () => {
    await person.clearCookies();
    await page.goto(shop + "/asked");
    return page.locator("h1").innerText();
  });
  await page.goto(media + "/");
  await tried("sibling's form through a service worker", async () => {
    await page.evaluate((action) => { document.forms[0].action = action; }, shop + "/asked");
    await page.getByRole("button", { name: "Send" }).click();
    await page.waitForURL(shop + "/asked");
    return page.locator("h1").innerText();
  });
  await page.goto(shop + "/");
  await inPage("worker is gone", async () => (await (await navigator.serviceWorker.getRegistration()).unregister()));
  await page.goto(shop + "/");

  await tried("back and forward", async () => {
    await page.locator("#next").click();
    await page.waitForURL(shop + "/frame");
    await page.goBack();
    await page.waitForURL(shop + "/");
    await page.goForward();
    await page.waitForURL(shop + "/frame");
    await page.goBack();
    return new URL(page.url()).pathname;
  });
  await tried("form", async () => {
    await page.getByRole("button", { name: "Send" }).click();
    await page.waitForURL(shop + "/form");
    const said = await page.locator("h1").innerText();
    await page.goBack();
    return said;
  });

  await page.goto(media + "/");
  await tried("form from a sibling", async () => {
    await page.evaluate((action) => { document.forms[0].action = action; }, shop + "/form");
    const [answer] = await Promise.all([page.waitForResponse(shop + "/form"), page.getByRole("button", { name: "Send" }).click()]);
    const told = await page.locator("h1").innerText();
    await stage.picture(page, "refused-form");
    return `${answer.status()} ${told}`;
  });

  await page.goto(shop + "/");
  await person.clearCookies();
  await tried("fetch after the session's end", () => page.evaluate(async () => {
    const answer = await fetch("/api/item", { method: "POST", body: "x" });
    return `${answer.status} ${(await answer.json()).error}`;
  }));
  await tried("form after the session's end", async () => {
    await page.getByRole("button", { name: "Send" }).click();
    await page.waitForURL(shop + "/form");
    return page.locator("h1").innerText();
  });
  return found;
}
