package shield

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	coreruleset "github.com/corazawaf/coraza-coreruleset/v4"
	"github.com/corazawaf/coraza/v3"
)

// Inspector is a compiled rule set for the apps whose rules are equal. It is immutable and may be used by any number of
// goroutines.
type Inspector struct {
	key   string
	limit Rules
	sets  []scoped // the most specific path first; the last one is for all others
}

// scoped is a rule set for some paths: exclusions are compiled in. The rule set has actions that exclude while a request
// is inspected, but with those concurrent requests share memory that they write to (coraza 3.8.1, Rule.doEvaluate).
type scoped struct {
	pattern string // of [Exclusion.Paths]; empty: everywhere
	waf     coraza.WAF
}

// Compile builds the inspector of an app; nil where its mode is off. One of have, of other apps or of the configuration
// before, serves if its rules are equal: the first rule set takes some 300 ms and 18 MB, each further one some 60 ms and
// 2 MB, as they share what they hold in common. It is an error when an own rule file cannot be read or holds what does not
// compile or is not admitted, with the file and the line.
func Compile(rules Rules, have ...*Inspector) (*Inspector, error) {
	if rules.Mode != Detect && rules.Mode != Block {
		return nil, nil
	}
	own, err := readOwn(rules.Rules)
	if err != nil {
		return nil, err
	}
	key := keyOf(rules, own)
	for _, other := range have {
		if other != nil && other.key == key {
			return other, nil
		}
	}
	i := &Inspector{key: key, limit: rules}
	for _, pattern := range append(rules.patterns(), "") {
		waf, err := rules.compile(own, pattern)
		if err != nil {
			i.Close()
			return nil, own.blame(err, func(own ownRules) error {
				waf, err := rules.compile(own, pattern)
				return errors.Join(err, release(waf))
			})
		}
		i.sets = append(i.sets, scoped{pattern, waf})
	}
	return i, nil
}

// Close lets go of what rule sets share with each other. Inspections under way finish.
func (i *Inspector) Close() error {
	var errs []error
	for _, set := range i.sets {
		errs = append(errs, release(set.waf))
	}
	return errors.Join(errs...)
}

func release(waf coraza.WAF) error {
	if closer, ok := waf.(io.Closer); ok {
		return closer.Close()
	}
	return nil
}

// keyOf is equal for rules that lead to the same inspector. What mode and threshold are is the policy's business.
func keyOf(rules Rules, own ownRules) string {
	rules.Mode, rules.Threshold = "", 0
	text, err := json.Marshal(struct {
		Rules Rules
		Own   ownRules
	}{rules, own})
	if err != nil {
		panic("BUG: " + err.Error())
	}
	digest := sha256.Sum256(text)
	return string(digest[:])
}

// patterns are the paths that exclusions name, the most specific first.
func (r *Rules) patterns() []string {
	var list []string
	for _, e := range r.Exclude {
		list = append(list, e.Paths...)
	}
	slices.SortFunc(list, func(a, b string) int { return cmp.Or(cmp.Compare(specific(b), specific(a)), strings.Compare(a, b)) })
	return slices.Compact(list)
}

// specific orders patterns that match one path: longer ones win, and the path itself over the folder of that name.
func specific(pattern string) int {
	if folder, isFolder := strings.CutSuffix(pattern, "/"); isFolder {
		return 2 * len(folder)
	}
	return 2*len(pattern) + 1
}

// matches reports whether a path is the pattern's, or below it where the pattern ends with a slash.
func matches(pattern, path string) bool {
	if folder, isFolder := strings.CutSuffix(pattern, "/"); isFolder {
		return path == folder || strings.HasPrefix(path, pattern)
	}
	return path == pattern
}

// set is the rule set for a path.
func (i *Inspector) set(path string) coraza.WAF {
	for _, s := range i.sets {
		if s.pattern == "" || matches(s.pattern, path) {
			return s.waf
		}
	}
	panic("BUG: no rule set is for all paths")
}

// Findings of our own: what the rule set could not be shown.
const (
	FindingArguments = 400001 // more arguments than are inspected
	FindingDepth     = 400002 // nested deeper than is inspected
	FindingParts     = 400003 // more parts than are inspected
	FindingLong      = 400004 // a form, JSON or XML is longer than what is inspected
	FindingMalformed = 400005 // the body is not what its type says
)

// compile builds the rule set for a pattern of paths: the core rules that concern requests, with ours before and own ones
// after them.
func (r *Rules) compile(own ownRules, pattern string) (coraza.WAF, error) {
	var text strings.Builder
	text.WriteString(r.setup())
	core, err := fs.Glob(coreruleset.FS, "@owasp_crs/REQUEST-*.conf")
	if err != nil || len(core) == 0 {
		return nil, fmt.Errorf("the core rule set is not there: %w", err)
	}
	var evaluation string
	for _, file := range core {
		switch {
		case strings.Contains(file, "REQUEST-905"): // trusts loopback addresses, which a proxy of ours may have
		case strings.Contains(file, "REQUEST-949"):
			evaluation = file
		default:
			text.WriteString("Include " + file + "\n")
		}
	}
	for _, file := range own {
		for _, d := range file.Directives {
			text.WriteString(d.Text + "\n")
		}
	}
	text.WriteString("Include " + evaluation + "\n" + r.exclusions(pattern))
	waf, err := coraza.NewWAF(coraza.NewWAFConfig().WithRootFS(coreruleset.FS).WithDirectives(text.String()))
	if err != nil {
		return nil, fmt.Errorf("compiling the rules: %w", err)
	}
	return waf, nil
}

// setup comes before the core rules. Left out of those are the ones that judge what the gateway judges itself: methods
// (911100), content types (920420), versions of HTTP (920430).
func (r *Rules) setup() string {
	var b strings.Builder
	b.WriteString("SecRuleEngine DetectionOnly\nSecAuditEngine Off\nSecRequestBodyAccess Off\nSecResponseBodyAccess Off\n")
	fmt.Fprintf(&b, "SecArgumentsLimit %d\n", r.Arguments)
	fmt.Fprintf(&b, `SecAction "id:400100,phase:1,pass,nolog,t:none,setvar:tx.crs_setup_version=4250,`+
		`setvar:tx.blocking_paranoia_level=%d,setvar:tx.detection_paranoia_level=%[1]d"`+"\n", r.Paranoia)
	for id := FindingArguments; id <= FindingMalformed; id++ {
		fmt.Fprintf(&b, `SecRule TX:%s "@eq 1" "id:%d,phase:2,pass,nolog,t:none,severity:CRITICAL,tag:'sallyport',`+
			`setvar:tx.inbound_anomaly_score_pl1=+%%{tx.critical_anomaly_score}"`+"\n", flag(id), id)
	}
	return b.String()
}

// flag is the variable that makes a finding of our own.
func flag(id int) string { return fmt.Sprintf("sallyport_%d", id) }

// exclusions are the directives for what holds for a pattern. They come last: they change rules that are there.
func (r *Rules) exclusions(pattern string) string {
	var b strings.Builder
	b.WriteString("SecRuleRemoveById 911100 920420 920430\n")
	for _, e := range r.Exclude {
		if len(e.Paths) == 0 || slices.ContainsFunc(e.Paths, func(p string) bool { return pattern != "" && covers(p, pattern) }) {
			e.write(&b)
		}
	}
	return b.String()
}

// covers reports whether every path for which pattern is the most specific one is a path of p.
func covers(p, pattern string) bool {
	return p == pattern || strings.HasSuffix(p, "/") && strings.HasPrefix(pattern, p) || p == pattern+"/"
}

func (e *Exclusion) write(b *strings.Builder) {
	if len(e.Arguments) == 0 {
		for _, id := range e.Rules {
			fmt.Fprintf(b, "SecRuleRemoveById %s\n", id)
		}
		for _, tag := range e.Tags {
			fmt.Fprintf(b, "SecRuleRemoveByTag %s\n", tag)
		}
		return
	}
	for _, argument := range e.Arguments {
		target := target(argument)
		for _, id := range e.Rules {
			fmt.Fprintf(b, "SecRuleUpdateTargetById %s \"%s\"\n", id, target)
		}
		for _, tag := range e.Tags {
			fmt.Fprintf(b, "SecRuleUpdateTargetByTag %s \"%s\"\n", tag, target)
		}
	}
}

// target is what a rule is told not to look at.
func target(argument string) string {
	if name, ok := strings.CutPrefix(argument, "cookie:"); ok {
		return "!REQUEST_COOKIES:" + name
	}
	if name, ok := strings.CutPrefix(argument, "header:"); ok {
		return "!REQUEST_HEADERS:" + name
	}
	return "!ARGS:" + argument
}
