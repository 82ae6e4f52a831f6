import { expect, test } from "vitest";

import lock from "../package-lock.json";

test("the lock file names versions and checksums, and no registry", () => {
  for (const [name, entry] of Object.entries<object>(lock.packages)) {
    expect(entry, name).not.toHaveProperty("resolved");
    if (name) expect(entry, name).toHaveProperty("integrity");
  }
});
