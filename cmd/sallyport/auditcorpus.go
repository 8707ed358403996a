package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"sallyport/audit/evidence"
	"sallyport/audit/tree"
	"sallyport/audit/verify"
	"sallyport/gateway/config"
	"sallyport/policy/review/corpus"
)

// auditCorpusCommand writes what changes of a policy are tried on where the log cannot be read.
type auditCorpusCommand struct {
	Replay   string   `arg:"" optional:"" default:"all" help:"Which recorded decisions: \"all\", the last 24h or 7d, FROM..TO, or an evidence bundle." placeholder:"RANGE|BUNDLE"`
	Policy   string   `help:"The policy whose changes it is for, of which it keeps what that can read: ${policy}" default:"active" placeholder:"POLICY"`
	Where    string   `help:"Only decisions that meet this condition, such as 'app == \"payroll\"'." placeholder:"EXPRESSION"`
	Also     []string `help:"Keep these input fields too, such as resource.path, for changes that will read them." placeholder:"FIELD"`
	Unsigned bool     `help:"Do not sign it: nobody can tell then where it comes from."`
	Out      string   `required:"" short:"o" help:"The corpus to write. It appears when it is complete." placeholder:"FILE" type:"path"`
	JSON     bool     `help:"Print its header as JSON."`
}

// Help is what the command's own help adds.
func (c *auditCorpusCommand) Help() string {
	return `A corpus has the distinct requests of a log as far as the policy can read them, how often each was made, and the day of the
last one. Names, e-mail addresses, ids, claims, and values of headers and queries become pseudonyms, and the ends of IP
addresses go; what the policy itself names stays, and so do groups, domains and words in paths. It still tells people apart, so do not
publish it.

Use it with: sallyport policy diff --from POLICY --to POLICY --replay FILE
Verify it with: sallyport audit verify FILE --trust FILE`
}

// Run writes the corpus and says what it holds.
func (c *auditCorpusCommand) Run(in *invocation) error {
	p, err := in.openPolicy(c.Policy)
	if err != nil {
		return err
	}
	source, err := in.openRecorded("audit corpus", replayFlags{Replay: c.Replay, Where: c.Where})
	if err != nil {
		return err
	}
	defer source.Close()
	if source.corpus != nil {
		return errors.New("a corpus is made of records: " + c.Replay + " is a corpus already")
	}
	options := corpus.Options{Policy: p.Engine, Source: source.source, Also: c.Also, Created: time.Now().UTC().Truncate(time.Second), Program: "sallyport " + version}
	_, _ = rand.Read(options.Key[:]) // never fails
	if !c.Unsigned {
		options.Sign = in.signCorpus
	}
	out, err := openOutput(nil, c.Out)
	if err != nil {
		return err
	}
	header, err := corpus.Write(in.ctx, out, options)
	if err != nil {
		return errors.Join(err, out.abandon())
	}
	if err := out.complete(); err != nil {
		return err
	}
	if c.JSON {
		return printJSON(in.out, header)
	}
	c.print(in, header)
	return nil
}

func (in *invocation) signCorpus(sum [32]byte) ([]byte, error) {
	places, err := config.Find(in.file, os.LookupEnv)
	if err != nil {
		return nil, err
	}
	return signManifest(in.ctx, places, sum)
}

func (c *auditCorpusCommand) print(in *invocation, h *corpus.Header) {
	fmt.Fprintf(in.out, "%s: %d kinds of request stand for %d requests\n", c.Out, h.Entries, h.Requests)
	for _, why := range slices.Sorted(maps.Keys(h.LeftOut)) {
		fmt.Fprintf(in.out, "left out: %d, %s\n", h.LeftOut[why], inert(why))
	}
	for _, app := range slices.Sorted(maps.Keys(h.Held)) {
		fmt.Fprintf(in.out, "%s: %s\n", inert(app), strings.Join(h.Held[app], " "))
	}
}

// corpusReport is what verifying a corpus finds.
type corpusReport struct {
	Result verify.Result  `json:"result"`
	Why    string         `json:"why,omitzero"`
	Signed string         `json:"signed_by,omitzero"`
	Header *corpus.Header `json:"header,omitzero"`
}

// verifyCorpus checks that a corpus is whole and whose it is.
func (in *invocation) verifyCorpus(path string, trust *tree.Trust, asJSON bool) error {
	report := corpusReport{Result: verify.Tampered}
	c, err := readCorpus(path)
	if err == nil {
		report = checkCorpus(c, trust)
	} else {
		report.Why = err.Error()
	}
	switch {
	case asJSON:
		err = printJSON(in.out, report)
	case report.Result == verify.Pass:
		h := report.Header
		_, err = fmt.Fprintf(in.out, "%s: a corpus of %s, signed by %s: %d kinds of request stand for %d\n",
			report.Result, h.Created.Format(time.DateOnly), inert(report.Signed), h.Entries, h.Requests)
	default:
		_, err = fmt.Fprintf(in.out, "%s: %s\n", report.Result, inert(report.Why))
	}
	if err != nil || report.Result == verify.Pass {
		return err
	}
	return verdict(report.Result)
}

func checkCorpus(c *corpus.Corpus, trust *tree.Trust) corpusReport {
	report := corpusReport{Result: verify.Untrusted, Header: &c.Header}
	if len(c.Note()) == 0 {
		report.Why = "the corpus is not signed"
		return report
	}
	text, names, err := trust.OpenNote(c.Note())
	if errors.Is(err, tree.ErrUntrusted) {
		report.Why = "the corpus is signed by nobody who is trusted"
		return report
	}
	if err != nil {
		report.Result, report.Why = verify.Tampered, err.Error()
		return report
	}
	name, sum, err := evidence.ParseNoteText(string(text))
	switch {
	case err != nil || !slices.Contains(names, name):
		report.Why = fmt.Sprintf("the corpus is not signed by the key that the note names: %q by %q", name, names)
	case sum != c.Sum():
		report.Result, report.Why = verify.Tampered, "the corpus is not what was signed"
	default:
		report.Result, report.Signed = verify.Pass, name
	}
	return report
}
