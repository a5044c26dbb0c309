import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type BrowserContext, chromium, type Page } from "playwright-core";

const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

/** A headless Chromium with a profile of its own. */
export class Browser {
  static async start(): Promise<Browser> {
    const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
    if (!existsSync(executablePath)) {
      throw new Error(
        `The browser tests need Chromium, and ${executablePath} does not exist. Fix: install it ` +
          "(Debian, Ubuntu: apt-get install chromium), or name another with the variable CHROMIUM.",
      );
    }
    const profile = await mkdtemp(join(tmpdir(), "aronnax-chromium-"));
    const context = await chromium.launchPersistentContext(profile, {
      executablePath,
      headless: true,
      args: FLAGS,
      viewport: { width: 1500, height: 950 },
    });
    context.setDefaultTimeout(90_000);
    return new Browser(context, profile);
  }

  private constructor(
    readonly context: BrowserContext,
    private readonly profile: string,
  ) {}

  /** A tab; what the page logs as an error is kept in `errors`. */
  async newPage(): Promise<{ page: Page; errors: string[] }> {
    const page = await this.context.newPage();
    const errors: string[] = [];
    page.on("pageerror", (error) => errors.push(String(error)));
    page.on("console", (message) => {
      if (message.type() === "error") {
        errors.push(message.text());
      }
    });
    return { page, errors };
  }

  async stop(): Promise<void> {
    await this.context.close();
    await rm(this.profile, { recursive: true, force: true, maxRetries: 5 });
  }
}
