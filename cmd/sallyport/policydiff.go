package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"sallyport/policy/review"
	"sallyport/policy/review/diff"
	"sallyport/policy/review/directory"
	"sallyport/policy/review/matrix"
	"sallyport/policy/review/replay"
)

// policyDiffCommand tells whose access a change of policy changes.
type policyDiffCommand struct {
	From   string `help:"The policy there is: ${policy}" default:"active" placeholder:"POLICY"`
	To     string `help:"The one that may replace it: as --from. Default: that of the configuration." placeholder:"POLICY"`
	Matrix string `help:"Ask both about everybody in this directory file. Without it, and without --replay: about people made up from what the policies name." placeholder:"DIRECTORY" type:"path"`
	replayFlags
	FailOn   *string `help:"Exit with 1 when a finding meets this condition (CEL), such as 'gained && resource.sensitivity == \"high\"'." placeholder:"CONDITION"`
	ExitCode bool    `help:"Exit with 1 when somebody gains or loses access, or the like: on any finding but reason_only."`
	Reasons  bool    `help:"List also what has another reason or rule, and the same answer. JSON always has it."`
	By       *string `help:"Sum up by people, groups, apps or rules in place of listing findings." enum:"people,groups,apps,rules" placeholder:"WHAT"`
	JSON     bool    `help:"Print JSON." xor:"form"`
	Markdown bool    `help:"Print Markdown for a pull request." xor:"form"`
}

// Help is what the command's own help adds.
func (c *policyDiffCommand) Help() string {
	return `Changes, the gravest first: gained, step_up_removed, revoked, step_up_added, error, obligations_changed, reason_only.

Each finding is a set of requests: every combination of its people, methods, paths and circumstances. In JSON, what is absent
does not count. A method that the app's "methods" do not name is "*". A path belongs to the first of the app's "paths"
that it matches, in which a star is any text; an address to the longest of its "networks" that holds it.

A condition knows gained, revoked and so on, change, app, resource (id, owner, sensitivity, labels), people, usual, groups,
methods, paths, anonymous, from and to (allow, reason, code, rule) and requests.

The exit code is 1 when a condition is met, and when differences may be missing from the report, which then says why.`
}

// Run compares, prints and judges.
func (c *policyDiffCommand) Run(in *invocation) error {
	if c.Replay == "" && (c.Where != "" || c.Trust != "") {
		return errors.New("--where and --trust are about recorded requests: say which with --replay")
	}
	condition, err := c.condition()
	if err != nil {
		return err
	}
	from, err := in.openPolicy(c.From)
	if err != nil {
		return err
	}
	to, err := in.openPolicy(c.To)
	if err != nil {
		return err
	}
	r, err := c.compare(in, from, to)
	if err != nil {
		return err
	}
	if err := c.print(in.out, r); err != nil {
		return err
	}
	return c.judge(r, condition)
}

func (c *policyDiffCommand) condition() (*diff.Condition, error) {
	if c.FailOn == nil {
		return nil, nil
	}
	return diff.Compile(*c.FailOn) // an empty one is no condition that could be met
}

func (c *policyDiffCommand) compare(in *invocation, from, to *reviewed) (*diff.Report, error) {
	r := diff.New(describePolicy(from), describePolicy(to))
	d, err := c.directory()
	if err != nil {
		return nil, err
	}
	if c.Replay == "" || d != nil {
		if err := c.addMatrix(in, r, d, from, to); err != nil {
			return nil, err
		}
	}
	if c.Replay != "" {
		if err := c.addReplay(in, r, d, from, to); err != nil {
			return nil, err
		}
	}
	r.Finish()
	return r, nil
}

func (c *policyDiffCommand) addReplay(in *invocation, r *diff.Report, d *directory.Directory, from, to *reviewed) error {
	recorded, err := in.openRecorded("policy diff", c.replayFlags)
	if err != nil {
		return err
	}
	defer recorded.Close()
	result, err := replay.Run(in.ctx, recorded.config(in.ctx, from.Engine, to.Engine))
	if err != nil {
		return err
	}
	r.AddReplay(result, recorded.Name, d)
	return nil
}

func (c *policyDiffCommand) directory() (*directory.Directory, error) {
	if c.Matrix == "" {
		return nil, nil
	}
	return directory.Load(nearer(c.Matrix))
}

func (c *policyDiffCommand) addMatrix(in *invocation, r *diff.Report, d *directory.Directory, from, to *reviewed) error {
	cfg := matrix.Config{From: from.Engine, To: to.Engine}
	if d != nil {
		cfg.People = d.People
	}
	m, err := matrix.Run(in.ctx, cfg)
	if err != nil {
		return err
	}
	zone, err := from.Bundle.Zone()
	if err != nil {
		return err
	}
	r.AddMatrix(m, d, fileName(c.Matrix), zone.String())
	return nil
}

// fileName is a file as others know it, who read the report elsewhere: its path in this folder, or its name.
func fileName(path string) string {
	if path = nearer(path); filepath.IsAbs(path) {
		return filepath.Base(path)
	}
	return path
}

func describePolicy(p *reviewed) diff.Policy {
	return diff.Policy{Name: cmp.Or(p.Name, "the configuration"), Digest: p.Bundle.Digest, Revision: p.Bundle.Revision}
}

// judge is the exit code, and why.
func (c *policyDiffCommand) judge(r *diff.Report, condition *diff.Condition) error {
	var errs []error
	if !r.Complete {
		errs = append(errs, fmt.Errorf("differences may be missing from this report: %s", strings.Join(r.Incomplete, "; ")))
	}
	if condition != nil {
		met, err := condition.Met(r)
		if err != nil {
			return err
		}
		if len(met) > 0 {
			errs = append(errs, fmt.Errorf("%d of %d findings meet %s; the first: %s", len(met), len(r.Findings), condition, oneLine(met[0])))
		}
	}
	if n := grave(r); c.ExitCode && n > 0 {
		errs = append(errs, fmt.Errorf("access changes in %d findings", n))
	}
	if len(errs) > 0 {
		return no{errors.Join(errs...)}
	}
	return nil
}

// grave counts the findings that change more than a reason.
func grave(r *diff.Report) int {
	n := 0
	for change, t := range r.Totals {
		if change != review.ReasonOnly {
			n += t.Findings
		}
	}
	return n
}

func oneLine(f *diff.Finding) string {
	return fmt.Sprintf("%s %s: %s, %s %s", f.Change, f.App, shownPeople(f), shownMethods(f), shownPaths(f))
}

func (c *policyDiffCommand) print(out io.Writer, r *diff.Report) error {
	switch {
	case c.JSON:
		return printJSON(out, r)
	case c.Markdown:
		return c.printMarkdown(out, r)
	}
	return c.printText(out, r)
}

func (c *policyDiffCommand) printText(out io.Writer, r *diff.Report) error {
	for _, line := range introduction(r) {
		fmt.Fprintln(out, inert(line))
	}
	if c.By != nil {
		fmt.Fprintln(out)
		return printTable(out, sumHead(r), sumRows(r, *c.By))
	}
	for _, change := range review.Changes() {
		rows := c.rows(r, change)
		if len(rows) == 0 {
			continue
		}
		fmt.Fprintf(out, "\n%s: %s\n", change, meanings[change])
		if err := printTable(out, diffHead, rows); err != nil {
			return err
		}
	}
	return nil
}

// mostRows bounds the tables of a pull request's comment, which GitHub cuts at 65,536 characters.
const mostRows = 40

func (c *policyDiffCommand) printMarkdown(out io.Writer, r *diff.Report) error {
	fmt.Fprintf(out, "## Whose access changes\n\n")
	for _, line := range introduction(r) {
		fmt.Fprintf(out, "%s  \n", markdownText(line))
	}
	fmt.Fprintln(out)
	if c.By != nil {
		markdownTable(out, sumHead(r), sumRows(r, *c.By))
		return nil
	}
	for _, change := range review.Changes() {
		rows := c.rows(r, change)
		if len(rows) == 0 {
			continue
		}
		fmt.Fprintf(out, "### %s: %s\n\n", markdownText(string(change)), meanings[change])
		markdownTable(out, diffHead, rows[:min(len(rows), mostRows)])
		if left := len(rows) - mostRows; left > 0 {
			fmt.Fprintf(out, "And %d more.\n\n", left)
		}
	}
	return nil
}

// meanings say what the changes are.
var meanings = map[review.Change]string{
	review.Gained:        "denied before, allowed now",
	review.StepUpRemoved: "asked for a stronger sign-in before, allowed now",
	review.Revoked:       "allowed before, denied now",
	review.StepUpAdded:   "allowed before, asked for a stronger sign-in now",
	review.Failing:       "one of the policies gives no clear answer",
	review.Obligations:   "allowed under other conditions",
	review.ReasonOnly:    "the same answer for another reason or by another rule",
}

// introduction says what was compared, what was found, and what may be missing.
func introduction(r *diff.Report) []string {
	lines := []string{
		fmt.Sprintf("from %s (%s)", r.From.Name, shortDigest(r.From.Digest)),
		fmt.Sprintf("to   %s (%s)", r.To.Name, shortDigest(r.To.Digest)),
	}
	if m := r.Matrix; m != nil {
		who := fmt.Sprintf("%d people of %s, strangers included", m.People, m.Directory)
		if m.Directory == "" {
			who = "people made up from what the policies name"
		}
		lines = append(lines, fmt.Sprintf("matrix: %s, %d apps of which %d are decided as before, %d evaluations", who, m.Apps, m.Unchanged, m.Evaluations))
	}
	if r.Replay != nil {
		lines = append(lines, replayLines(r.Replay)...)
	}
	for _, why := range r.Incomplete {
		lines = append(lines, "INCOMPLETE: "+why)
	}
	for _, change := range review.Changes() {
		if t, any := r.Totals[change]; any {
			line := fmt.Sprintf("%s: %s in %s", change, counted(t.People, "person", "people"), counted(t.Apps, "app", "apps"))
			if r.Replay != nil {
				line += fmt.Sprintf(", %s", counted(int(t.Requests), "recorded request", "recorded requests"))
			}
			lines = append(lines, line)
		}
	}
	if len(r.Totals) == 0 {
		lines = append(lines, "nothing changes for anybody")
	}
	return lines
}

// replayLines say what was replayed, and whether the old policy's answers came out again: if not, what the replay found
// says little.
func replayLines(p *diff.Replay) []string {
	t := &p.Totals
	lines := []string{fmt.Sprintf("replay: %s: %d requests, %d distinct, %d replayed", p.Source, t.Requests, t.Distinct, t.Replayed)}
	switch {
	case p.Parity.Different > 0:
		lines = append(lines, fmt.Sprintf("PARITY FAILS: %d of %d recorded answers do not come out again, such as that of %s", p.Parity.Different, p.Parity.Checked, p.Parity.Examples[0].Record))
	case p.Parity.Checked > 0:
		lines = append(lines, fmt.Sprintf("parity: all of %d recorded answers come out again", p.Parity.Checked))
	default:
		lines = append(lines, "parity: no recorded answer could be compared")
	}
	if p.Parity.Unchecked > 0 {
		lines = append(lines, fmt.Sprintf("parity: %d answers not compared: another policy gave them, and it is not at hand", p.Parity.Unchecked))
	}
	for _, n := range p.NotReplayable {
		lines = append(lines, fmt.Sprintf("not replayable: %d requests: %s", n.Requests, n.Reason))
	}
	return append(lines, fmt.Sprintf("evaluation: p50 %v, p95 %v, p99 %v before; p50 %v, p95 %v, p99 %v now",
		p.From.P50, p.From.P95, p.From.P99, p.To.P50, p.To.P95, p.To.P99))
}

func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + many
}

var diffHead = []string{"APP", "WHO", "METHODS", "PATHS", "WHEN", "BEFORE", "NOW", "LAST USE"}

func (c *policyDiffCommand) rows(r *diff.Report, change review.Change) [][]string {
	var rows [][]string
	if change == review.ReasonOnly && !c.Reasons {
		return nil
	}
	for i := range r.Findings {
		f := &r.Findings[i]
		if f.Change != change {
			continue
		}
		app := f.App
		if f.Resource.Sensitivity != "" {
			app += " (" + f.Resource.Sensitivity + ")"
		}
		used := ""
		if f.Requests > 0 {
			used = fmt.Sprintf("%s, %s", f.LastUse.UTC().Format(time.DateOnly), counted(int(f.Requests), "request", "requests"))
		}
		rows = append(rows, []string{app, shownPeople(f), shownMethods(f), shownPaths(f), shownWhen(f.When), shownAnswer(&f.From), shownAnswer(&f.To), used})
	}
	return rows
}

// mostShown bounds the names in one cell.
const mostShown = 6

// shownPeople names the groups that are concerned whole, and a few people.
func shownPeople(f *diff.Finding) string {
	text := someOf(f.People, mostShown)
	if len(f.Groups) > 0 && len(f.People) > 1 {
		text = fmt.Sprintf("%d people, all of %s: %s", len(f.People), someOf(f.Groups, mostShown), text)
	}
	if others := len(f.People) - len(f.Usual); f.Source == diff.FromMatrix && others > 0 && others < len(f.People) {
		text += fmt.Sprintf(" (%d of them not as they usually sign in)", others)
	}
	return text
}

func someOf(list []string, most int) string {
	if len(list) <= most {
		return strings.Join(list, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(list[:most], ", "), len(list)-most)
}

func shownMethods(f *diff.Finding) string {
	if f.Methods == nil {
		return "any"
	}
	return others(f.Methods, "others")
}

func shownPaths(f *diff.Finding) string {
	if f.Paths == nil {
		return "any"
	}
	return someOf(folded(f.Paths), mostShown)
}

// folded says "/a/b/" for the path, the same with a slash and all below it, as access rules do.
func folded(paths []string) []string {
	has := func(path string) bool { return slices.Contains(paths, path) }
	var shown []string
	for _, path := range paths {
		folder := strings.TrimRight(path, "*/") + "/"
		whole := has(folder) && has(folder+"*") && (folder == "/" || has(strings.TrimSuffix(folder, "/")))
		switch {
		case whole && path == folder+"*" && folder == "/":
			shown = append(shown, "all others")
		case whole && path == folder+"*":
			shown = append(shown, folder)
		case !whole || path != folder && path+"/" != folder:
			shown = append(shown, path)
		}
	}
	return shown
}

func others(list []string, star string) string {
	shown := slices.Clone(list)
	if at := slices.Index(shown, "*"); at >= 0 {
		shown = append(slices.Delete(shown, at, at+1), star)
	}
	return strings.Join(shown, ", ")
}

func shownWhen(w *matrix.When) string {
	if w == nil {
		return "always"
	}
	var parts []string
	for _, h := range w.Hours {
		parts = append(parts, fmt.Sprintf("%s %s-%s", shownDays(h.Days), h.From, h.To))
	}
	if w.At != nil {
		parts = append(parts, "at "+someOf(w.At, mostShown))
	}
	if w.Networks != nil {
		parts = append(parts, "from "+others(w.Networks, "elsewhere"))
	}
	if w.MFA != nil {
		parts = append(parts, map[bool]string{true: "with MFA", false: "without MFA"}[*w.MFA])
	}
	if w.ACR != nil {
		parts = append(parts, "with assurance "+others(replaced(w.ACR, "", "none"), "any other"))
	}
	for _, a := range w.Age {
		parts = append(parts, shownAge(a))
	}
	for _, place := range slices.Sorted(maps.Keys(w.Other)) {
		parts = append(parts, place+" "+someOf(w.Other[place], mostShown))
	}
	return strings.Join(parts, "; ")
}

func replaced(list []string, what, by string) []string {
	list = slices.Clone(list)
	if at := slices.Index(list, what); at >= 0 {
		list[at] = by
	}
	return list
}

func shownAge(a matrix.Ages) string {
	from, to := time.Duration(a.From)*time.Second, time.Duration(a.To)*time.Second
	switch {
	case a.To == 0:
		return fmt.Sprintf("signed in %s ago or earlier", shortDuration(from))
	case a.From == 0:
		return fmt.Sprintf("signed in less than %s ago", shortDuration(to))
	}
	return fmt.Sprintf("signed in %s to %s ago", shortDuration(from), shortDuration(to))
}

// shortDuration is whole minutes as access rules write them: 90m.
func shortDuration(d time.Duration) string { return strconv.Itoa(int(d/time.Minute)) + "m" }

// shownDays joins three days or more in a row: mon-fri.
func shownDays(days []string) string {
	week := []string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"}
	var parts []string
	for i := 0; i < len(days); {
		end := i + 1
		for end < len(days) && slices.Index(week, days[end]) == slices.Index(week, days[end-1])+1 {
			end++
		}
		if end-i > 2 {
			parts = append(parts, days[i]+"-"+days[end-1])
		} else {
			parts = append(parts, days[i:end]...)
		}
		i = end
	}
	return strings.Join(parts, ",")
}

func shownAnswer(a *diff.Answer) string {
	text := a.Reason
	if a.Code != "" && a.Code != a.Reason {
		text = a.Code
	}
	if a.Rule != "" {
		text += " (" + a.Rule + ")"
	}
	return text
}

func sumHead(r *diff.Report) []string {
	head := []string{"NAME", "APPS"}
	for _, change := range review.Changes() {
		if _, any := r.Totals[change]; any {
			head = append(head, strings.ToUpper(string(change)))
		}
	}
	return head
}

func sumRows(r *diff.Report, by string) [][]string {
	sums := map[string][]diff.Sum{"people": r.By.People, "groups": r.By.Groups, "apps": r.By.Apps, "rules": r.By.Rules}[by]
	var rows [][]string
	for i := range sums {
		row := []string{sums[i].Name, someOf(sums[i].Apps, mostShown)}
		for _, change := range review.Changes() {
			if _, any := r.Totals[change]; any {
				row = append(row, strconv.Itoa(sums[i].Findings[change]))
			}
		}
		rows = append(rows, row)
	}
	return rows
}
