//go:build !race

package spool

// raceDetector is not there.
const raceDetector = false
