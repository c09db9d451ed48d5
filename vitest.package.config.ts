import { defineConfig } from 'vitest/config'

/** The published package: needs the npm registry and half a minute, so it is no part of `npm test`. */
export default defineConfig({
  test: {
    name: 'package',
    include: ['tests/package/**/*.test.ts'],
    globalSetup: 'tests/helpers/own-temp.ts',
    testTimeout: 300_000,
    hookTimeout: 300_000,
  },
})
