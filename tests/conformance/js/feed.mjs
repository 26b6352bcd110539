// What happened, in order, for whoever waits for the next of it.

export class Feed {
  constructor() {
    this.all = [];
    this.taken = 0;
    this.waiting = [];
    this.put = (item) => {
      this.all.push(item);
      this.waiting.shift()?.();
    };
  }

  // Resolve to the first item that has not been taken.
  async next() {
    if (this.taken >= this.all.length) await new Promise((resolve) => this.waiting.push(resolve));
    return this.all[this.taken++];
  }

  // Resolve to the next `count` items.
  async take(count) {
    const items = [];
    while (items.length < count) items.push(await this.next());
    return items;
  }

  // Resolve to the next item that fits, passing over those before it.
  async find(fits) {
    for (;;) {
      const item = await this.next();
      if (fits(item)) return item;
    }
  }
}
