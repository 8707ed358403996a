package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"sallyport/audit/tree"
	"sallyport/audit/verify"
	"sallyport/gateway/admin"
	"sallyport/gateway/config"
	"sallyport/policy"
)

type auditVerifyCommand struct {
	Path     string   `arg:"" help:"An audit directory, an evidence bundle, a proof that audit prove printed, or a corpus." type:"path"`
	Trust    string   `required:"" help:"The file with the keys that are trusted, and receipts (sallyport audit trust, sallyport audit receipt)." placeholder:"FILE" type:"path"`
	Receipt  []string `help:"A file with signed checkpoints that were kept elsewhere: the log must still hold what they say." placeholder:"FILE" type:"path"`
	Rederive bool     `help:"Also recompute every decision from its recorded input and the policy of its digest."`
	Each     bool     `help:"With --rederive, evaluate every decision by itself, also those that the policy cannot tell apart."`
	Workers  int      `help:"How many to check with at a time. Default: one per processor." placeholder:"COUNT"`
	JSON     bool     `name:"json" help:"Print the report as JSON."`
}

// Run prints the report. Its exit codes are those of package verify.
func (c *auditVerifyCommand) Run(in *invocation) error {
	trust, err := readTrust(c.Trust, c.Receipt)
	if err != nil {
		return err
	}
	if err := in.announceIfLive(c.Path); err != nil {
		return err
	}
	if isProof(c.Path) {
		return in.verifyProof(c.Path, trust, c.JSON)
	}
	if isCorpus(c.Path) {
		return in.verifyCorpus(c.Path, trust, c.JSON)
	}
	bar := newProgress(in.errOut)
	options := verify.Options{Trust: trust, Workers: c.Workers, Progress: func(p verify.Progress) { bar.show(p.Done, p.Total, "bytes", p.Records) }}
	if c.Rederive {
		options.Rederive = judge{ctx: in.ctx, each: c.Each}
	}
	report, err := verify.Run(in.ctx, c.Path, options)
	bar.close()
	if err != nil {
		return err
	}
	if c.JSON {
		err = printJSON(in.out, report)
	} else {
		err = report.Print(in.out)
	}
	if err != nil || report.Result == verify.Pass {
		return err
	}
	return verdict(report.ExitCode())
}

// verdict is an exit code that has been explained already.
type verdict int

func (v verdict) Error() string { return "" }

// readTrust reads the trust file with the receipts behind it.
func readTrust(path string, receipts []string) (*tree.Trust, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the trust file: %w", err)
	}
	for _, name := range receipts {
		receipt, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("reading a receipt: %w", err)
		}
		text = append(append(text, '\n'), receipt...)
	}
	trust, err := tree.ParseTrust(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return trust, nil
}

// announceIfLive puts it on record when what is verified is the log that the configuration is about, which a copy is not.
func (in *invocation) announceIfLive(path string) error {
	places, err := config.Find(in.file, os.LookupEnv)
	if errors.Is(err, fs.ErrNotExist) || places.Audit.Dir == "" {
		return nil // an auditor's machine has no configuration
	}
	if err != nil {
		return err
	}
	live, err := os.Stat(places.Audit.Dir)
	if err != nil {
		return nil
	}
	for at := filepath.Clean(path); ; at = filepath.Dir(at) {
		if here, err := os.Stat(at); err == nil && os.SameFile(live, here) {
			if err := announceAt(in.ctx, places, admin.Reading{Command: "verify", Log: "both"}); err != nil {
				return fmt.Errorf("the log is not read, because the read cannot be put on record: %w", err)
			}
			return nil
		}
		if at == filepath.Dir(at) {
			return nil
		}
	}
}

// isProof tells a proof file from a directory and a bundle.
func isProof(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	begin := make([]byte, len(proofBegin))
	_, err = io.ReadFull(f, begin)
	return err == nil && string(begin) == proofBegin
}

const (
	proofBegin = "c2sp.org/tlog-proof"
	maxProof   = 1 << 20
)

// proofReport is what verifying a proof finds.
type proofReport struct {
	Result verify.Result   `json:"result"`
	Why    string          `json:"why,omitzero"`
	Origin string          `json:"origin,omitzero"` // whose tree it is
	Size   uint64          `json:"size,omitzero"`   // of the signed tree
	Index  uint64          `json:"index"`
	Record json.RawMessage `json:"record,omitzero"`
}

// verifyProof checks a proof that carries its record.
func (in *invocation) verifyProof(path string, trust *tree.Trust, asJSON bool) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxProof))
	if err != nil {
		return err
	}
	report := checkProof(text, trust)
	switch {
	case asJSON:
		err = printJSON(in.out, report)
	case report.Result == verify.Pass:
		_, err = fmt.Fprintf(in.out, "%s: this is record %d of %s, whose tree of %d records is signed\n%s\n", report.Result, report.Index, report.Origin, report.Size, report.Record)
	default:
		_, err = fmt.Fprintf(in.out, "%s: %s\n", report.Result, inert(report.Why))
	}
	if err != nil || report.Result == verify.Pass {
		return err
	}
	return verdict(report.Result)
}

func checkProof(text []byte, trust *tree.Trust) proofReport {
	proof, err := tree.ParseProof(text)
	if err != nil {
		return proofReport{Result: verify.Tampered, Why: err.Error()}
	}
	report := proofReport{Index: proof.Index}
	if proof.Extra == nil {
		report.Result, report.Why = verify.Incomplete, "the proof does not carry the record that it is about"
		return report
	}
	checkpoint, err := tree.CheckProof(trust, proof, proof.Extra)
	switch {
	case errors.Is(err, tree.ErrUntrusted):
		report.Result, report.Why = verify.Untrusted, err.Error()
	case err != nil:
		report.Result, report.Why = verify.Tampered, err.Error()
	case !json.Valid(proof.Extra):
		report.Result, report.Why = verify.Tampered, "what is proved is no record"
	default:
		report.Origin, report.Size, report.Record = checkpoint.Origin, checkpoint.Size, proof.Extra
	}
	return report
}

// judge recomputes decisions for the verifier, by the policy that decided them.
type judge struct {
	ctx  context.Context
	each bool
}

// Open prepares the policy with that digest.
func (j judge) Open(digest string, archive []byte) (verify.Decider, error) {
	engine, err := compileArchive(j.ctx, digest, archive)
	if err != nil {
		return nil, err
	}
	return decider{engine, j.each}, nil
}

type decider struct {
	engine *policy.Engine
	each   bool
}

// Decide answers what the policy answers for a recorded input.
func (d decider) Decide(ctx context.Context, input, changed []byte) verify.Verdict {
	answer := d.engine.Rederive
	if d.each && changed == nil {
		answer = func(ctx context.Context, input, _ []byte) *policy.Verdict { return d.engine.Recompute(ctx, input) }
	}
	v := answer(ctx, input, changed)
	return verify.Verdict{Allow: v.Allow, Reason: v.Reason, Decision: v.JSON}
}
