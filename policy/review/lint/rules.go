package lint

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"strings"
)

// rule is what one rule looks for. What it means is written in the file rules/ID.md.
type rule struct {
	ID       string
	Severity Severity
	find     func(p *pass)
}

// rules are all rules, the gravest first.
var rules = []rule{
	{"configuration", Error, findConfiguration},
	{"syntax", Error, findSyntax},
	{"compile", Error, findCompile},
	{"type", Error, findTypes},
	{"denied-builtin", Error, findBuiltins},
	{"decision-shape", Error, findShape},

	{"strict", Warning, findStrict},
	{"allow-without-subject", Warning, findNoSubject},
	{"default-allow", Warning, findDefaultAllow},
	{"no-default", Warning, findNoDefault},
	{"strangers-refused", Warning, findStrangers},
	{"conflicting-decisions", Warning, findConflicts},
	{"unknown-obligation", Warning, findObligations},
	{"loose-prefix", Warning, findLoosePrefix},
	{"unanchored-regex", Warning, findLooseRegex},
	{"path-form", Warning, findPathForm},
	{"method-name", Warning, findMethod},
	{"literal-user", Warning, findLiteralUser},
	{"unverified-email", Warning, findUnverified},
	{"loose-domain", Warning, findLooseDomain},
	{"groups-incomplete", Warning, findIncomplete},
	{"negated-unknown", Warning, findUnknowns},
	{"header-trust", Warning, findHeaderTrust},
	{"query-trust", Warning, findQueryTrust},
	{"any-network", Warning, findAnyNetwork},
	{"time-text", Warning, findTimeText},
	{"impossible-value", Warning, findImpossible},
	{"unreachable-rule", Warning, findUnreachable},
	{"unknown-group", Warning, findUnknownGroup},
	{"unknown-app", Warning, findUnknownApp},
	{"public-write", Warning, findPublicWrite},
	{"weaker-sign-in", Warning, findWeaker},
	{"shadowing", Warning, findShadowing},
	{"print", Warning, findPrint},

	{"unindexed-iteration", Note, findScans},
	{"no-reason", Note, findReasons},
	{"undocumented", Note, findUndocumented},
	{"untested", Note, findUntested},
	{"not-remembered", Note, findForgotten},
}

//go:embed rules/*.md
var texts embed.FS

// Rule is a rule and what people need to know of it.
type Rule struct {
	ID          string    `json:"id"`
	Severity    Severity  `json:"severity"`
	Title       string    `json:"title"`
	Explanation string    `json:"explanation"` // one paragraph
	Bad         []Example `json:"bad"`
	Good        []Example `json:"good"`
}

// Example is a piece of Rego, or of the apps section of a configuration.
type Example struct {
	Language string `json:"language"` // rego or yaml
	Text     string `json:"text"`
}

// ErrUnknown is returned for a rule that there is not.
var ErrUnknown = errors.New("no such rule")

// Rules are all rules, the gravest first.
func Rules() []Rule {
	list := make([]Rule, len(rules))
	for i := range rules {
		list[i] = rules[i].describe()
	}
	return list
}

// Explain is the rule called that.
func Explain(id string) (Rule, error) {
	for i := range rules {
		if rules[i].ID == id {
			return rules[i].describe(), nil
		}
	}
	return Rule{}, fmt.Errorf("%w: %q", ErrUnknown, id)
}

func (r *rule) describe() Rule {
	content, err := fs.ReadFile(texts, "rules/"+r.ID+".md")
	if err != nil {
		panic("BUG: rule without explanation: " + err.Error())
	}
	described := parseText(string(content))
	described.ID, described.Severity = r.ID, r.Severity
	return described
}

// parseText reads a rule's file: a title, a paragraph, and examples below the headings Bad and Good.
func parseText(content string) (r Rule) {
	head, rest, _ := strings.Cut(content, "\n## Bad\n")
	bad, good, _ := strings.Cut(rest, "\n## Good\n")
	title, explanation, _ := strings.Cut(head, "\n")
	r.Title = strings.TrimPrefix(title, "# ")
	r.Explanation = strings.Join(strings.Fields(explanation), " ")
	r.Bad, r.Good = examples(bad), examples(good)
	return r
}

const fence = "```"

func examples(section string) (list []Example) {
	for {
		_, rest, found := strings.Cut(section, "\n"+fence)
		if !found {
			return list
		}
		language, rest, _ := strings.Cut(rest, "\n")
		code, rest, _ := strings.Cut(rest, "\n"+fence)
		list = append(list, Example{language, code + "\n"})
		section = rest
	}
}
