// Package shield inspects requests with the OWASP Core Rule Set. It produces findings, never verdicts: what follows from
// them is for the policy to say.
package shield

import "time"

// Config is `shield` in the configuration: what inspection may cost all apps together.
type Config struct {
	// Timeout is how long the inspection of one request may take. Default 500ms.
	Timeout time.Duration `yaml:"timeout" default:"500ms"`
}

// Rules is an app's `shield`: how its requests are inspected.
type Rules struct {
	// Mode is "off", "detect", which records what is found, or "block", which lets the policy refuse from Threshold on.
	// Default "off".
	Mode Mode `yaml:"mode" default:"off" enum:"off,detect,block"`
	// Threshold is the anomaly score from which the shipped policy refuses. Default 5: one critical finding.
	Threshold int `yaml:"threshold" default:"5"`
}

// Mode says what an app's findings are for.
type Mode string

// The modes.
const (
	Off    Mode = "off"
	Detect Mode = "detect"
	Block  Mode = "block"
)
