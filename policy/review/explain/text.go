package explain

import (
	"fmt"
	"io"
	"strings"
	"time"

	"sallyport/policy/review/condition"
)

// WriteText writes the explanation for people. What comes from requests and policies is written as it is: whoever writes
// to a terminal makes it inert.
func (x *Explanation) WriteText(w io.Writer) error {
	p := &printer{w: w}
	p.line(0, "%s  %s in %s, asked by %s", strings.ToUpper(string(x.Answer)), x.Request, x.App, x.Who)
	p.line(0, "reason   %s", x.Reason)
	if r := x.Record; r != nil {
		p.line(0, "record   %s of %s: %s, %s", r.ID, r.Time.UTC().Format(time.RFC3339), r.Effect, r.Reason)
	}
	if x.differs() {
		p.line(0, "         this is not what was decided then: %s", x.otherwise())
	}
	p.line(0, "policy   %s, revision %s", x.Policy, x.Revision)
	p.line(0, "decided  by %s", x.Decides)
	p.rules(0, x.Rules)
	if len(x.Access) > 0 {
		p.line(0, "\nit asks the app's access rules, of which the first decides whose paths and methods match")
		p.rules(0, x.Access)
	}
	if x.Problem != "" {
		p.line(0, "\nnot all of it is shown: %s", x.Problem)
	}
	p.nearest(x)
	return p.err
}

// otherwise says why an answer may be another one than that on record.
func (x *Explanation) otherwise() string {
	if x.Record.Policy != x.Policy {
		return "policy " + x.Record.Policy + " decided"
	}
	return "the same policy decided, which calls for sallyport audit verify"
}

// printer writes lines until one fails.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) line(depth int, format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, strings.Repeat("  ", depth)+format+"\n", args...)
	}
}

func (p *printer) rules(depth int, list []Rule) {
	if depth == 0 {
		p.line(0, "")
	}
	for _, r := range list {
		p.line(depth, "%s", strings.TrimRight(fmt.Sprintf("%s  %s  %s", r.ID, outcomes[r.Outcome], r.At), " "))
		if r.Text != "" {
			p.line(depth+2, "%s", r.Text)
		}
		for _, c := range r.Conditions {
			p.condition(depth+1, c)
		}
	}
}

// outcomes are what came of rules, in words.
var outcomes = map[Outcome]string{
	Grants: "decides, and allows", Refuses: "decides, and does not allow", Passed: "is for other requests",
	Late: "is for this request too, but an earlier rule decides", Holds: "holds", Fails: "does not hold",
}

// signs are whether conditions are met, so that they stand out in a column.
var signs = map[Truth]string{Yes: "yes", No: "NO ", NotAsked: " - "}

func (p *printer) condition(depth int, c Condition) {
	line := signs[c.Truth] + "  " + c.Text
	if got := facts(c.Got); got != "" {
		line += "   (" + got + ")"
	}
	if c.At.Line > 0 {
		line += fmt.Sprintf("   line %d", c.At.Line)
	}
	p.line(depth, "%s", line)
	p.rules(depth+2, c.Rules)
}

func facts(list []condition.Fact) string {
	said := make([]string, len(list))
	for i, f := range list {
		said[i] = f.Field + " is absent"
		if f.Value != "" {
			said[i] = f.Field + ": " + f.Value
		}
	}
	return strings.Join(said, "; ")
}

func (p *printer) nearest(x *Explanation) {
	switch {
	case x.Answer == Allow:
		return
	case x.Nearest == nil:
		p.line(0, "\nno change of the request was found that would be allowed")
		return
	case x.Nearest.Rule != "":
		p.line(0, "\nnearest: %s would allow it, were one to", x.Nearest.Rule)
	default:
		p.line(0, "\nnearest: it would be allowed, were one to")
	}
	for _, c := range x.Nearest.Changes {
		p.line(1, "- %s", c.Text)
	}
}

// WriteMarkdown writes the explanation for a pull request or a ticket: the text, in a block that nothing in it can leave.
func (x *Explanation) WriteMarkdown(w io.Writer) error {
	var text strings.Builder
	if err := x.WriteText(&text); err != nil {
		return err
	}
	fence := "```"
	for strings.Contains(text.String(), fence) {
		fence += "`"
	}
	_, err := fmt.Fprintf(w, "### %s %s\n\n%stext\n%s%s\n", strings.ToUpper(string(x.Answer)), x.App, fence, text.String(), fence)
	return err
}
