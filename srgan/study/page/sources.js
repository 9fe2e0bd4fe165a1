"use strict";

/* Where a study comes from: a server, or the page's own file. Both have the same functions. */
class Server {
  static async call(path, body) {
    const options = body === undefined
      ? {}
      : { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
    return fetch(path, { cache: "no-store", ...options });
  }

  /* The study; without a rater if this browser has none yet. */
  async open() {
    return (await Server.checked(Server.call("api/study"))).json();
  }

  async join() {
    const response = await Server.call("api/join", { token: location.hash.slice(1) });
    if (response.status === 403) throw new Error("This link is not whole. Please ask for it again.");
    return (await Server.checked(response)).json();
  }

  async tell(display) {
    await Server.checked(Server.call("api/display", display));
  }

  async picture(trial, place) {
    const response = await Server.checked(Server.call(`api/picture/${trial}/${place}`));
    return URL.createObjectURL(await response.blob());
  }

  async send(answer) {
    try {
      const { status } = await Server.call("api/rate", answer);
      return status === 200 || status === 409 ? "done" : "again"; // 409: the first answer stays
    } catch (error) {
      console.info(`not sent yet: ${error.message}`);
      return "again";
    }
  }

  static async checked(response) {
    const done = await response;
    if (!done.ok) throw new Error(`The server answers ${done.status}. Please try again.`);
    return done;
  }
}

class OwnFile {
  constructor(facts) {
    this.facts = facts;
    this.place = `study ${facts.study} plan ${facts.plan}`;
    this.send = null;
  }

  async open() {
    const kept = Answers.read(this.place) || { rater: null, display: null };
    return { ...this.facts, ...kept, hasDisplay: Boolean(kept.display) };
  }

  async join() {
    const bytes = crypto.getRandomValues(new Uint8Array(8));
    const rater = [...bytes].map((one) => one.toString(16).padStart(2, "0")).join("");
    Answers.write(this.place, { rater, display: null });
    return { ...this.facts, rater, hasDisplay: false };
  }

  async tell(display, rater) {
    Answers.write(this.place, { rater, display });
  }

  async picture(trial, place) {
    return this.facts.pictures[trial][place];
  }
}
