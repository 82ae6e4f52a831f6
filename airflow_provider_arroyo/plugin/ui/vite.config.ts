import { defineConfig } from "vitest/config";

export default defineConfig({
  base: "./",
  publicDir: "public",
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  build: {
    outDir: "../static",
    emptyOutDir: true,
    target: "es2022",
    sourcemap: false,
    modulePreload: false,
    // The licenses of the libraries that the bundle holds.
    license: { fileName: "licenses.md" },
    rolldownOptions: {
      input: "src/main.tsx",
      preserveEntrySignatures: false,
      onLog: (level, entry, log) => {
        // A library marks its modules for React servers, which do not concern a browser.
        if (entry.code !== "MODULE_LEVEL_DIRECTIVE") log(level, entry);
      },
      output: { entryFileNames: "main.js", codeSplitting: false },
    },
  },
  test: { environment: "happy-dom", include: ["tests/**/*.test.{ts,tsx}"] },
});
