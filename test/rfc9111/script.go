package rfc9111

import (
	"fmt"
	"net/textproto"
	"strconv"
	"strings"
	"time"
)

// A script is a series of cases. Lines that begin with # are comments. A case is
//
//	== what the cache does
//	RFC 9111 §5.2.2.1; required           clause and kind
//	each STATUS = 200 | 404               once for each value; $STATUS is the value in everything that follows
//	ask GET                               exchange 1: what the client asks
//	app 200                               what the app answers if it is asked
//	Cache-Control: max-age=60
//	after 2s                              wait before the next exchange
//	ask bob GET /own$url?x=1
//	If-None-Match: "a"
//	see stored 1                          who answered, and with which exchange's body
//	Age 0..5                              what the client got: a number in this range
//	sent
//	If-None-Match: "a"                    what the app got
//
// ask takes a person (ada, unless said), a method and a target ($url, unless said; payroll:$url is the same on another
// host). app takes a status and any of
//
//	undated    no Date header, which is otherwise now
//	chunked    the body as chunks; "trailer NAME: VALUE" lines follow it
//	cut        half of the body, then the end of the connection
//	close      the end of the connection in place of an answer
//
// A status 304 is answered only to a request that has a condition. "body TEXT" replaces the body, which otherwise names
// case and exchange, and "size N" fills it with as many digits; "interim 103 NAME: VALUE" goes before the answer. see takes a status, unless it is the app's, and
//
//	app          the app was asked, and this is its answer
//	stored N     the app was not asked; the body is exchange N's
//	validated N  the app was asked and said 304; the body is exchange N's
//	stale N      the app was asked, then or soon after; the body is exchange N's
//	not N        anything but exchange N's body
//	gateway      the app was not asked; the answer is nobody's
//	failed       the app was asked; the answer is a 5xx of the gateway
//	any          whoever it was; only a status that is given counts
//
// The first exchange sees app, unless it says something else, and later ones must say. Fields of see and sent are "NAME:
// VALUE", "NAME ~ PART", "NAME !~ PART", "NAME !" (absent), "NAME ?" (present), "NAME 1..2"; see also takes "body TEXT",
// "trailer NAME: VALUE" and "interim 103".
//
// $url is a path nobody else uses and $id its segment, $base the app's public origin, {-60} the date a minute before the case began, {+60}
// a minute after, {+60 rfc850} and {+60 asctime} the same in the obsolete forms.

// Step is one exchange.
type Step struct {
	After time.Duration
	Ask   Ask
	App   Answer
	See   Sight
	Sent  []Field
}

// Ask is what the client sends.
type Ask struct {
	Person, App, Method, Target string
	Header                      []Line
	Body                        string
}

// Answer is what the app answers.
type Answer struct {
	Status                       int
	Header, Trailer              []Line
	Interim                      []Interim
	Body                         *string // nil names case and exchange
	Undated, Chunked, Cut, Close bool
}

// Interim is an answer before the answer.
type Interim struct {
	Status int
	Line
}

// Line is one header field line.
type Line struct{ Name, Value string }

// Sight is what the client should see.
type Sight struct {
	Who     string // see the script
	Nth     int    // whose body, from 1
	Status  int    // 0: the one of the answer
	Fields  []Field
	Trailer []Field
	Body    *string
	Interim int // a status that should come before the answer
}

// Field is an expectation of one header field.
type Field struct {
	Name, Op, Value string // Op: ":", "~", "!~", "!", "?" or ".."
	Low, High       int
}

// parse reads the cases of one file.
func parse(file, text string) (cases []Case, err error) {
	blocks := strings.Split("\n"+text, "\n== ")
	line := strings.Count(blocks[0], "\n") // the newline put in front stands for the one the split took
	for _, block := range blocks[1:] {
		where := fmt.Sprintf("%s:%d", strings.TrimSuffix(file, ".txt"), line+1)
		for _, variant := range variants(block) {
			c, err := parseCase(variant)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", where, err)
			}
			c.Where = where
			cases = append(cases, c)
		}
		line += strings.Count(block, "\n") + 1
	}
	return cases, nil
}

// variants resolves "each" lines, the last of them first.
func variants(block string) []string {
	before, rest, found := strings.Cut(block, "\neach ")
	if !found {
		return []string{block}
	}
	loop, after, _ := strings.Cut(rest, "\n")
	name, values, _ := strings.Cut(loop, " = ")
	var all []string
	for value := range strings.SplitSeq(values, " | ") {
		value = strings.TrimSpace(value)
		title, body, _ := strings.Cut(before, "\n")
		text := title + ": " + value + "\n" + strings.ReplaceAll(body+"\n"+after, "$"+name, value)
		all = append(all, variants(text)...)
	}
	return all
}

// reading is a case of which some lines have been read; in says which part of an exchange the next fields belong to.
type reading struct {
	Case
	after time.Duration
	in    string
}

func parseCase(block string) (Case, error) {
	lines := strings.Split(strings.TrimRight(block, "\n"), "\n")
	r := reading{Case: Case{Name: lines[0]}}
	if len(lines) < 2 {
		return Case{}, fmt.Errorf("%q has no clause", r.Name)
	}
	for lines[1][0] == '#' && len(lines) > 2 {
		lines = append(lines[:1:1], lines[2:]...)
	}
	clause, kind, _ := strings.Cut(lines[1], "; ")
	r.Clause, r.Kind = clause, Kind(kind)
	if r.Kind != Required && r.Kind != Optional && r.Kind != Check {
		return Case{}, fmt.Errorf("%q is of kind %q", r.Name, kind)
	}
	for _, line := range lines[2:] {
		if line = strings.TrimRight(line, " "); line == "" || line[0] == '#' {
			continue
		}
		if err := r.line(line); err != nil {
			return Case{}, fmt.Errorf("%q: %q: %w", r.Name, line, err)
		}
	}
	if len(r.Steps) == 0 {
		return Case{}, fmt.Errorf("%q asks nothing", r.Name)
	}
	for i, s := range r.Steps {
		if s.See.Who == "" {
			return Case{}, fmt.Errorf("%q does not say what exchange %d sees", r.Name, i+1)
		}
	}
	return r.Case, nil
}

func (r *reading) line(line string) (err error) {
	word, rest, _ := strings.Cut(line, " ")
	if word == "after" {
		r.after, err = time.ParseDuration(rest)
		return err
	}
	if word == "ask" {
		r.in = word
		return r.ask(rest)
	}
	if len(r.Steps) == 0 {
		return fmt.Errorf("comes before the first ask")
	}
	step := &r.Steps[len(r.Steps)-1]
	switch word {
	case "app", "see", "sent":
		r.in = word
	}
	switch {
	case word == "app":
		return step.App.read(rest)
	case word == "see":
		return step.See.read(rest, len(r.Steps))
	case word == "sent":
		return nil
	case r.in == "ask" && word == "body":
		step.Ask.Body = rest
	case r.in == "ask":
		step.Ask.Header, err = appendLine(step.Ask.Header, line)
	case r.in == "app":
		return step.App.detail(word, rest, line)
	case r.in == "see":
		return step.See.detail(word, rest, line)
	case r.in == "sent":
		step.Sent, err = appendField(step.Sent, line)
	}
	return err
}

func (r *reading) ask(rest string) error {
	step := Step{After: r.after, Ask: Ask{Person: "ada", App: "wiki", Target: "$url"}, App: Answer{Status: 200}}
	r.after = 0
	words := strings.Fields(rest)
	if len(words) > 0 && strings.ToLower(words[0]) == words[0] {
		step.Ask.Person, words = words[0], words[1:]
	}
	if len(words) == 0 || len(words) > 2 {
		return fmt.Errorf("want a method and at most a target")
	}
	step.Ask.Method = words[0]
	if len(words) == 2 {
		step.Ask.Target = words[1]
	}
	if app, target, found := strings.Cut(step.Ask.Target, ":"); found {
		step.Ask.App, step.Ask.Target = app, target
	}
	if len(r.Steps) == 0 {
		step.See = Sight{Who: "app", Nth: 1}
	}
	r.Steps = append(r.Steps, step)
	return nil
}

func (a *Answer) read(rest string) (err error) {
	for word := range strings.FieldsSeq(rest) {
		switch word {
		case "undated":
			a.Undated = true
		case "chunked":
			a.Chunked = true
		case "cut":
			a.Cut = true
		case "close":
			a.Close = true
		default:
			if a.Status, err = strconv.Atoi(word); err != nil {
				return err
			}
		}
	}
	return nil
}

func (a *Answer) detail(word, rest, line string) (err error) {
	switch word {
	case "body":
		a.Body = &rest
	case "size":
		size, err := strconv.Atoi(rest)
		a.Body = new(strings.Repeat("0123456789", size/10))
		return err
	case "trailer":
		a.Trailer, err = appendLine(a.Trailer, rest)
	case "interim":
		status, field, _ := strings.Cut(rest, " ")
		interim := Interim{}
		if interim.Status, err = strconv.Atoi(status); err != nil {
			return err
		}
		if field != "" {
			name, value, _ := strings.Cut(field, ": ")
			interim.Line = Line{name, value}
		}
		a.Interim = append(a.Interim, interim)
	default:
		a.Header, err = appendLine(a.Header, line)
	}
	return err
}

func (s *Sight) read(rest string, nth int) error {
	*s = Sight{Nth: nth}
	for word := range strings.FieldsSeq(rest) {
		n, err := strconv.Atoi(word)
		switch {
		case err == nil && n < 100:
			s.Nth = n
		case err == nil:
			s.Status = n
		default:
			s.Who = word
		}
	}
	switch s.Who {
	case "stored", "validated", "stale", "not":
		if s.Nth >= nth {
			return fmt.Errorf("want the number of an earlier exchange")
		}
	case "app", "gateway", "failed", "any":
	default:
		return fmt.Errorf("nobody is called %q", s.Who)
	}
	return nil
}

func (s *Sight) detail(word, rest, line string) (err error) {
	switch word {
	case "body":
		s.Body = &rest
	case "trailer":
		s.Trailer, err = appendField(s.Trailer, rest)
	case "interim":
		s.Interim, err = strconv.Atoi(rest)
	default:
		s.Fields, err = appendField(s.Fields, line)
	}
	return err
}

// appendLine reads a header field line. What follows the colon and one space is the value, byte for byte.
func appendLine(lines []Line, line string) ([]Line, error) {
	name, value, found := strings.Cut(line, ":")
	if !found || strings.Contains(name, " ") {
		return nil, fmt.Errorf("is no header field")
	}
	return append(lines, Line{name, strings.TrimPrefix(value, " ")}), nil
}

func appendField(fields []Field, line string) ([]Field, error) {
	name, rest, _ := strings.Cut(line, " ")
	if name, isExact := strings.CutSuffix(name, ":"); isExact {
		return append(fields, Field{Name: textproto.CanonicalMIMEHeaderKey(name), Op: ":", Value: rest}), nil
	}
	f := Field{Name: textproto.CanonicalMIMEHeaderKey(name)}
	if low, high, found := strings.Cut(rest, ".."); found && f.read(low, high) {
		return append(fields, f), nil
	}
	f.Op, f.Value, _ = strings.Cut(rest, " ")
	switch f.Op {
	case "~", "!~", "!", "?":
		return append(fields, f), nil
	}
	return nil, fmt.Errorf("is no expectation")
}

func (f *Field) read(low, high string) bool {
	var err, err2 error
	f.Op = ".."
	f.Low, err = strconv.Atoi(low)
	f.High, err2 = strconv.Atoi(high)
	return err == nil && err2 == nil
}

// met reports whether the values of a field are as expected.
func (f Field) met(values []string) bool {
	joined := strings.Join(values, ", ")
	switch f.Op {
	case ":":
		return len(values) > 0 && joined == f.Value
	case "~":
		return strings.Contains(joined, f.Value)
	case "!~":
		return !strings.Contains(joined, f.Value)
	case "!":
		return len(values) == 0
	case "?":
		return len(values) > 0
	}
	n, err := strconv.Atoi(joined)
	return err == nil && f.Low <= n && n <= f.High
}

func (f Field) String() string {
	switch f.Op {
	case ":":
		return f.Name + ": " + f.Value
	case "..":
		return fmt.Sprintf("%s from %d to %d", f.Name, f.Low, f.High)
	case "!":
		return "no " + f.Name
	case "?":
		return "a " + f.Name
	}
	return strings.TrimSpace(f.Name + " " + f.Op + " " + f.Value)
}
