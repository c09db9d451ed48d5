import { defineConfig } from 'vitest/config'

/** Needs an NVIDIA GPU with CUDA; each test is skipped with the reason where there is none. */
export default defineConfig({
  test: {
    include: ['tests/gpu/**/*.test.ts'],
    pool: 'forks',
    globalSetup: 'tests/helpers/own-temp.ts',
    fileParallelism: false,
    passWithNoTests: true,
    testTimeout: 300_000,
  },
})
