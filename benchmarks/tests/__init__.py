"""Tests of the benchmarks; `make test` runs them with the tests of the package."""
