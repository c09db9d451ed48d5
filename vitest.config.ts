import { defineConfig } from 'vitest/config'

/** One project per kind of test: `vitest run --project unit` runs one kind alone. */
export default defineConfig({
  test: {
    pool: 'forks',
    globalSetup: 'tests/helpers/own-temp.ts',
    // Vitest leaves one core to itself; these tests wait for sockets and processes more than they compute.
    maxWorkers: '100%',
    projects: [
      {
        extends: true,
        test: { name: 'unit', include: ['tests/unit/**/*.test.ts', 'tests/*.test.ts'], testTimeout: 30_000 },
      },
      {
        extends: true,
        test: { name: 'integration', include: ['tests/integration/**/*.test.ts'], testTimeout: 60_000 },
      },
      {
        extends: true,
        test: {
          name: 'e2e',
          include: ['tests/e2e/**/*.test.ts'],
          testTimeout: 180_000,
          hookTimeout: 120_000,
          fileParallelism: false,
        },
      },
      {
        extends: true,
        // Processes that are killed, frozen and lied to.
        test: {
          name: 'chaos',
          include: ['tests/chaos/**/*.test.ts'],
          testTimeout: 180_000,
          hookTimeout: 120_000,
          fileParallelism: false,
        },
      },
      {
        extends: true,
        // A real Chromium; skipped with the reason where there is none.
        test: {
          name: 'web',
          include: ['tests/web/**/*.test.ts'],
          testTimeout: 120_000,
          hookTimeout: 120_000,
          fileParallelism: false,
        },
      },
      {
        extends: true,
        // Network namespaces: Linux, root and iproute2; skipped with the reason elsewhere.
        test: { name: 'net', include: ['tests/net/**/*.test.ts'], testTimeout: 120_000, fileParallelism: false },
      },
    ],
  },
})
