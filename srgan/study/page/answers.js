"use strict";

/* A rater's answers. They lie in the browser's storage until the server has them, or for ever
   where there is no server. Sending one again changes nothing. */
class Answers {
  /* send(answer) resolves to "done", or to "again" if it may work later; null without a server. */
  constructor(facts, send, changed) {
    this.facts = facts;
    this.place = `study ${facts.study} ${facts.rater}`;
    this.send = send;
    this.changed = changed;
    this.sent = new Set(facts.answered || []);
    this.given = new Map();
    this.isKept = true;
    this.isSending = false;
    this.wait = 0;
    for (const one of Answers.read(this.place) || []) this.given.set(one.trial, one);
    addEventListener("online", () => this.flush());
  }

  static read(place) {
    try {
      return JSON.parse(localStorage.getItem(place));
    } catch (error) {
      console.warn(`nothing is kept in this browser: ${error.message}`);
      return null;
    }
  }

  static write(place, value) {
    try {
      localStorage.setItem(place, JSON.stringify(value));
      return true;
    } catch (error) {
      console.warn(`nothing is kept in this browser: ${error.message}`);
      return false;
    }
  }

  has(trial) {
    return this.sent.has(trial) || this.given.has(trial);
  }

  get unsent() {
    return this.send ? [...this.given.values()].filter((one) => !this.sent.has(one.trial)) : [];
  }

  add(trial, answer, milliseconds) {
    if (this.has(trial)) return;
    this.given.set(trial, { trial, answer, milliseconds });
    this.isKept = Answers.write(this.place, [...this.given.values()]);
    this.flush();
  }

  async flush() {
    if (this.isSending) return;
    this.isSending = true;
    clearTimeout(this.timer);
    let isDone = true;
    for (const one of this.unsent) {
      isDone = (await this.send(one)) === "done";
      if (!isDone) break;
      this.sent.add(one.trial);
      this.wait = 0;
    }
    this.isSending = false;
    if (!isDone) {
      this.wait = Math.min(15, this.wait ? 2 * this.wait : 1);
      this.timer = setTimeout(() => this.flush(), 1000 * this.wait);
    } else if (this.unsent.length) {
      this.flush();
    }
    this.changed();
  }

  /* What score reads. */
  asFile(display) {
    const { study, rater, plan } = this.facts;
    const ratings = [...this.given.values()].sort((a, b) => a.trial - b.trial);
    return JSON.stringify({ study, rater, plan, display, ratings }, null, 1);
  }
}
