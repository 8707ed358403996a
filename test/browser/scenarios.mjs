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

