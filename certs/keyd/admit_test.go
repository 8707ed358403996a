package keyd

import (
	"testing"

	"sallyport/certs/internal/wire"
	"sallyport/certs/keyd/keydtest"
)

// KEY-14: each rule keeps out an attack that no other rule does. A mutant without the rule would sign it, so the attacks
// here and in TestKEY14OnlyGrowthIsSigned find such a mutant.
func TestKEY14EachRuleIsNeeded(t *testing.T) {
	log := keydtest.NewLog(t, "log")
	fork := log.Fork(5, "fork")
	at := func(n uint64) logState {
		s := newLogState(decision)
		s.signed, s.last.Size, s.last.Root = true, n, log.Root(n)
		return s
	}
	checkpoint := func(l *keydtest.Log, n uint64) wire.Checkpoint {
		return wire.Checkpoint{Origin: decision, Size: n, Root: l.Root(n)}
	}
	with := func(c wire.Checkpoint, change func(*wire.Checkpoint)) wire.Checkpoint {
		change(&c)
		return c
	}
	successor := at(8).successor()
	for _, tt := range []struct {
		attack string
		state  logState
		next   wire.Checkpoint
		growth wire.Growth
		rule   error // the one that stops it; nil: it is no attack
	}{
		{"none", at(8), checkpoint(log, 11), wire.Growth{Old: 8, Proof: log.Proof(8, 11)}, nil},
		{"repeats", at(8), checkpoint(log, 8), wire.Growth{Old: 3, Proof: log.Proof(3, 8)}, nil},
		{"begins", newLogState(decision), checkpoint(log, 3), wire.Growth{}, nil},
		{"begins with nothing", newLogState(decision), checkpoint(log, 0), wire.Growth{}, nil},

		{"signs as another log", at(8), with(checkpoint(log, 11), func(c *wire.Checkpoint) { c.Origin = "corp.example/audit/control" }),
			wire.Growth{Old: 8, Proof: log.Proof(8, 11)}, refusal("not the origin in use")},
		{"shortens", at(8), checkpoint(log, 5), wire.Growth{Old: 8}, refusal("smaller than the last one signed")},
		{"rewrites", at(8), checkpoint(fork, 8), wire.Growth{Old: 8}, refusal("another tree of the size signed last")},
		{"forks and has no proof", at(8), checkpoint(fork, 11), wire.Growth{Old: 8}, refusal("not proved to continue the last one signed")},
		{"forks from where both are alike", at(8), checkpoint(fork, 11), wire.Growth{Old: 5, Proof: fork.Proof(5, 11)}, conflict(checkpoint(log, 8))},
		{"begins anew", at(8), checkpoint(fork, 11), wire.Growth{}, conflict(checkpoint(log, 8))},
		{"begins with an impossible tree", newLogState(decision), with(checkpoint(log, 3), func(c *wire.Checkpoint) { c.Size = 0 }),
			wire.Growth{}, refusal("no tree of size 0 has this root")},
		{"says more than it knows", newLogState(decision), checkpoint(log, 3), wire.Growth{Proof: log.Proof(3, 8)}, refusal("a proof where there is nothing to prove")},
		{"hides what it continues", successor, with(checkpoint(fork, 3), func(c *wire.Checkpoint) { c.Origin += "/2" }),
			wire.Growth{}, refusal("the first checkpoint of an epoch must name the log that it continues")},
		{"hides how long that was", successor, with(checkpoint(fork, 3), func(c *wire.Checkpoint) {
			c.Origin += "/2"
			c.Previous = checkpoint(log, 5).PreviousLine()
		}), wire.Growth{}, refusal("not the log that this one continues")},
		{"makes up a past", newLogState(decision), with(checkpoint(log, 3), func(c *wire.Checkpoint) { c.Previous = checkpoint(fork, 9).PreviousLine() }),
			wire.Growth{}, refusal("not the log that this one continues")},
	} {
		if err := tt.state.admits(tt.next, tt.growth); err != tt.rule {
			t.Errorf("a gateway that %s: got %v, want %v", tt.attack, err, tt.rule)
		}
	}
}
