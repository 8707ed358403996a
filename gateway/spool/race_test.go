//go:build race

package spool

// raceDetector counts allocations of its own.
const raceDetector = true
