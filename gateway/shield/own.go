package shield

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"sort"
	"strings"
)

// ownRules are the operator's files.
type ownRules []ownFile

type ownFile struct {
	Name       string
	Directives []directive
}

// directive is one of a file, with its continued lines joined.
type directive struct {
	Line int
	Text string
}

// maxOwn bounds a file of own rules.
const maxOwn = 1 << 20

// Own rules look at requests and score. They cannot switch the inspection off or make it act by itself, reach files or
// the network, or log.
var (
	admittedDirectives = []string{"secrule", "secaction", "secmarker", "secruleremovebyid", "secruleremovebytag", "secruleremovebymsg",
		"secruleupdatetargetbyid", "secruleupdatetargetbytag", "secruleupdatetargetbymsg"}
	refusedInside = []string{"exec:", "initcol:", "ctl:ruleengine", "ctl:auditengine", "ctl:auditlogparts", "ctl:debugloglevel", "ctl:requestbody",
		"ctl:responsebody", "ctl:forcerequestbodyvariable", "ctl:ruleremovetarget", "@inspectfile", "fromfile", "@pmf", "@ipmatchf", "@rbl",
		"@geolookup", "@validateschema", "phase:3", "phase:4", "phase:5", "phase:response", "phase:logging"}
	ownID = regexp.MustCompile(`(?i)["',\s]id\s*:\s*'?([0-9]+)`)
)

func readOwn(names []string) (ownRules, error) {
	var files ownRules
	for _, name := range names {
		file, err := readOwnFile(name)
		if err != nil {
			return nil, err
		}
		files = append(files, file)
	}
	return files, nil
}

func readOwnFile(name string) (ownFile, error) {
	file := ownFile{Name: name}
	f, err := os.Open(name)
	if err != nil {
		return file, fmt.Errorf("reading own rules: %w", err)
	}
	defer f.Close()
	in := bufio.NewScanner(io.LimitReader(f, maxOwn+1))
	in.Buffer(nil, maxOwn)
	var open directive // a directive whose line is continued
	size, line := 0, 0
	for in.Scan() {
		line++
		size += len(in.Bytes()) + 1
		text := strings.TrimSpace(in.Text())
		if text == "" || text[0] == '#' {
			continue
		}
		if open.Text == "" {
			open.Line = line
		}
		part, continued := strings.CutSuffix(text, `\`)
		open.Text += part
		if continued {
			continue
		}
		if err := open.check(); err != nil {
			return file, fmt.Errorf("%s:%d: %w", name, open.Line, err)
		}
		file.Directives = append(file.Directives, open)
		open = directive{}
	}
	switch {
	case in.Err() != nil:
		return file, fmt.Errorf("reading own rules: %s: %w", name, in.Err())
	case size > maxOwn:
		return file, fmt.Errorf("reading own rules: %s is larger than %d bytes", name, maxOwn)
	case open.Text != "":
		return file, fmt.Errorf("%s:%d: the directive has no end", name, open.Line)
	}
	return file, nil
}

// check refuses what own rules may not say.
func (d directive) check() error {
	word, _, _ := strings.Cut(d.Text, " ")
	if !slices.Contains(admittedDirectives, strings.ToLower(word)) {
		return fmt.Errorf("%s is not among what own rules may hold: SecRule, SecAction, SecMarker, SecRuleRemoveBy… and SecRuleUpdateTargetBy…", word)
	}
	lower := strings.ToLower(d.Text)
	for _, refused := range refusedInside {
		if strings.Contains(lower, refused) {
			return fmt.Errorf("own rules may not say %s", refused)
		}
	}
	for _, id := range ownID.FindAllStringSubmatch(d.Text, -1) {
		if n := number(id[1]); n < 1 || n > 99999 {
			return fmt.Errorf("own rules have ids from 1 to 99999, not %s", id[1])
		}
	}
	return nil
}

// blame finds the first directive with which compiling fails, which takes a few more attempts.
func (files ownRules) blame(err error, compile func(ownRules) error) error {
	if compile(nil) != nil {
		return err
	}
	for f, file := range files {
		n := sort.Search(len(file.Directives), func(n int) bool {
			upTo := append(slices.Clone(files[:f]), ownFile{file.Name, file.Directives[:n+1]})
			return compile(upTo) != nil
		})
		if n < len(file.Directives) {
			return fmt.Errorf("%s:%d: %w", file.Name, file.Directives[n].Line, err)
		}
	}
	return err
}
