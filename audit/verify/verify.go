// Package verify checks an audit directory, or an evidence bundle that was made from one, without asking anybody: what it
// holds must follow from signatures of keys that the caller trusts.
//
// [Run] reads an audit directory (a copy or the live one) or a bundle (a zip), writes nothing, and returns a [Report]. Whoever
// wrote the files may be an enemy who can recompute everything but a signature: no file is believed for what it says of
// itself, memory does not grow with what a file claims, and no link leads out of the directory.
//
// What no offline check can know: a copy whose newest part is missing together with the checkpoints that covered it looks
// like an earlier day. A receipt in the trust file, or the other log's heartbeats, tell.
package verify

import (
	"context"
	"runtime"
	"time"

	"sallyport/audit/tree"
)

// Options say what is believed and how much is done.
type Options struct {
	// Trust holds the keys that may sign, and receipts. Nil trusts nobody: everything signed is then by a stranger.
	Trust *tree.Trust
	// Rederive decides every recorded decision again. Nil does not; then records are hashed and only in part read.
	Rederive Judge
	// Decode reads every record in full: that it is well-formed, has its one spelling, and its input's digest is right.
	// Rederive includes it.
	Decode bool
	// Origin is the audit origin that the checkpoints must be of, such as corp.example/audit. Empty takes any that is
	// trusted, as long as it is one.
	Origin string
	// Progress is called now and then from one goroutine at a time, and once at the end. Nil is not called.
	Progress func(Progress)
	// Workers is how many goroutines hash and decide. 0 is one for each processor.
	Workers int

	skip skips // for tests: what a broken verifier would leave out
}

// Judge opens policies to decide again. It is safe for concurrent use.
type Judge interface {
	// Open prepares the policy with that digest, whose archive has it. It is called once for each digest.
	Open(digest string, archive []byte) (Decider, error)
}

// Decider is one policy. It is safe for concurrent use.
type Decider interface {
	// Decide answers as the gateway did. With changed, a JSON Merge Patch (RFC 7396), the input is what that makes of input,
	// as records of type reevaluated have it. Neither is written to.
	Decide(ctx context.Context, input, changed []byte) Verdict
}

// Verdict is what a policy answers.
type Verdict struct {
	Allow    bool
	Reason   string
	Decision []byte // the decision document as the record has it
}

// Progress is how far a run has come.
type Progress struct {
	Done, Total int64  // bytes of records to read; Total may be estimated
	Records     uint64 // checked so far
	PerSecond   float64
	Elapsed     time.Duration
}

// Run checks the audit directory or evidence bundle at path. What is wrong with it is in the report; an error means that
// it could not be looked at (CannotRun): there is nothing there, it cannot be read, or ctx ended. The report is never nil.
func Run(ctx context.Context, path string, opts Options) (*Report, error) {
	if opts.Workers <= 0 {
		opts.Workers = runtime.GOMAXPROCS(0)
	}
	return newRun(ctx, path, opts).run()
}
