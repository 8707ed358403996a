package shield

import (
	"errors"
	"fmt"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"time"

	"sallyport/gateway/units"
)

// Config is `shield` in the configuration: what inspection may cost all apps together.
type Config struct {
	// Timeout is how long the inspection of one request may take, from 10ms to 1m, with the time for which it waits for
	// its turn. Afterwards the policy is told so: in apps that block, the request is refused. Default 500ms.
	Timeout time.Duration `yaml:"timeout" default:"500ms"`
	// Concurrency is how many requests are inspected at a time: each keeps a processor busy. 0 is as many as there are
	// processors, and at least 3. Those of strangers may be half of them at most, and fewer where one person could have
	// all that they leave: people who are signed in wait for no stranger. Default 0.
	Concurrency int `yaml:"concurrency" default:"0"`
	// PerClient is how many of them may be of one person, or of one address where nobody is signed in. 0 is half of
	// concurrency, so that one client can never have all. Default 0.
	PerClient int `yaml:"per_client" default:"0"`
	// Waiting is how many requests may wait for their turn; one client's may be a quarter of them, and those of strangers
	// half. What finds no room is not inspected, which the policy is told like a timeout. Default 1024.
	Waiting int `yaml:"waiting" default:"1024"`
}

// Check reports what is wrong with the limits.
func (c *Config) Check() error {
	switch {
	case c.Timeout < 10*time.Millisecond || c.Timeout > time.Minute:
		return errors.New("timeout must be from 10ms to 1m")
	case c.Concurrency < 0 || c.Concurrency == 1 || c.Concurrency > 1024:
		return errors.New("concurrency must be 0 or from 2 to 1024: one client must not be able to have all of it")
	case c.PerClient < 0 || c.PerClient > 0 && c.PerClient >= c.orDefaults().Concurrency:
		return errors.New("per_client must be less than concurrency: one client must not be able to have all of it")
	case c.Waiting < 4 || c.Waiting > 1<<16:
		return errors.New("waiting must be from 4 to 65536")
	}
	return nil
}

// orDefaults is c with what is left open filled in.
func (c Config) orDefaults() Config {
	if c.Timeout == 0 {
		c.Timeout = 500 * time.Millisecond
	}
	if c.Concurrency == 0 {
		c.Concurrency = max(3, runtime.GOMAXPROCS(0))
	}
	if c.PerClient == 0 {
		c.PerClient = c.Concurrency / 2
	}
	if c.Waiting == 0 {
		c.Waiting = 1024
	}
	return c
}

// strangers is how many of the places strangers may have, all of them together: half, but no more than leave one to
// others when one person has their share, and one.
func (c Config) strangers() int {
	return max(1, min(c.Concurrency/2, c.Concurrency-c.PerClient-1))
}

// perStranger is how many of those one stranger may have: half, too.
func (c Config) perStranger() int { return max(1, c.strangers()/2) }

// Rules is an app's `shield`: how its requests are inspected.
type Rules struct {
	// Mode is "off", "detect", which records what is found, or "block", with which the policy refuses from threshold on.
	// Default "off".
	Mode Mode `yaml:"mode" default:"off" enum:"off,detect,block"`
	// Threshold is the anomaly score from which the shipped policy refuses, from 1 to 1000. A critical finding scores 5,
	// an error 4, a warning 3 and a notice 2. Default 5: one critical finding.
	Threshold int `yaml:"threshold" default:"5"`
	// Paranoia is how suspicious the Core Rule Set is, from 1 to 4. From 2 on, most apps need exclusions. Default 1.
	Paranoia int `yaml:"paranoia" default:"1"`
	// Body is how many bytes of a request's body are inspected, such as 64KiB, at most 8MiB; 0 looks at heads only. Each KiB
	// costs 5 to 10 ms of a processor, so a larger one may need a longer shield.timeout. A form, JSON or XML that goes on
	// is finding 400004. Default 32KiB.
	Body units.Bytes `yaml:"body" default:"32KiB"`
	// Arguments is how many parameters, form fields and JSON or XML values are inspected, each in query and body, from 1 to
	// 10000. More are finding 400001. Default 500.
	Arguments int `yaml:"arguments" default:"500"`
	// Depth is how deep JSON and XML may nest, from 1 to 100. Deeper is finding 400002. Default 32.
	Depth int `yaml:"depth" default:"32"`
	// Parts is how many parts a multipart body may have, from 1 to 1000. More are finding 400003. Default 64.
	Parts int `yaml:"parts" default:"64"`
	// Exclude leaves rules out that find what is ordinary for the app. Default: none.
	Exclude []Exclusion `yaml:"exclude"`
	// Rules are files with rules of your own in SecLang, such as /etc/sallyport/wiki.conf, read when the configuration is.
	// Default: none.
	Rules []string `yaml:"rules" config:"path,single"`
}

// Exclusion leaves rules out, everywhere or for some paths, altogether or for some arguments.
type Exclusion struct {
	// Rules are the ids of rules, such as 942100, or ranges of them, such as 942100-942999. Rules or tags must be named.
	Rules []string `yaml:"rules" config:"single,number"`
	// Tags name rules by what the Core Rule Set calls them, such as attack-sqli.
	Tags []string `yaml:"tags" config:"single"`
	// Paths are where the rules are left out: /a/b is that path, /a/b/ that and all below it, as for access. Default:
	// everywhere.
	Paths []string `yaml:"paths" config:"single"`
	// Arguments are what the rules are not to look at: the name of a parameter, form field or JSON value (json.page.text),
	// or cookie:NAME or header:NAME. Default: the rules are left out altogether.
	Arguments []string `yaml:"arguments" config:"single"`
}

// Mode says what an app's findings are for.
type Mode string

// The modes. The zero value is Off, too.
const (
	Off    Mode = "off"
	Detect Mode = "detect"
	Block  Mode = "block"
)

// UnmarshalText accepts off, detect or block.
func (m *Mode) UnmarshalText(text []byte) error {
	switch mode := Mode(text); mode {
	case Off, Detect, Block:
		*m = mode
		return nil
	}
	return fmt.Errorf("%q is none of off, detect and block", text)
}

// Bounds of an app's rules.
const (
	maxBody     = 8 << 20
	maxPatterns = 32 // paths of exclusions: each has a rule set of its own
)

// Check reports what is wrong with the rules by themselves; what own files hold is checked by [Compile].
func (r *Rules) Check() error {
	for _, n := range []struct {
		name           string
		value, lo, top int
	}{
		{"threshold", r.Threshold, 1, 1000}, {"paranoia", r.Paranoia, 1, 4}, {"arguments", r.Arguments, 1, 10000},
		{"depth", r.Depth, 1, 100}, {"parts", r.Parts, 1, 1000}, {"body", int(r.Body), 0, maxBody},
	} {
		if n.value < n.lo || n.value > n.top {
			return fmt.Errorf("%s must be from %d to %d", n.name, n.lo, n.top)
		}
	}
	if len(r.patterns()) > maxPatterns {
		return fmt.Errorf("exclude names %d different paths: at most %d are possible", len(r.patterns()), maxPatterns)
	}
	return nil
}

var (
	ruleRange    = regexp.MustCompile(`^[1-9][0-9]{0,8}(-[1-9][0-9]{0,8})?$`)
	ruleTag      = regexp.MustCompile(`^[A-Za-z0-9_/.-]{1,100}$`)
	exactPath    = regexp.MustCompile(`^/[^\x00-\x20\x7f]*$`)
	argumentName = regexp.MustCompile(`^(cookie:|header:)?[A-Za-z0-9_.\[\]-]{1,100}$`)
)

// Check reports what is wrong with an exclusion.
func (e *Exclusion) Check() error {
	if len(e.Rules) == 0 && len(e.Tags) == 0 {
		return errors.New("names neither rules nor tags")
	}
	for _, id := range e.Rules {
		if first, last, isRange := strings.Cut(id, "-"); !ruleRange.MatchString(id) || isRange && number(first) > number(last) {
			return fmt.Errorf("rules: %q is no rule id such as 942100 or range such as 942100-942999", id)
		}
	}
	return errors.Join(allMatch("tags", "tag such as attack-sqli", e.Tags, ruleTag),
		allMatch("paths", "path such as /editor/", e.Paths, exactPath),
		allMatch("arguments", "name such as text, json.page.text, cookie:draft or header:X-Note", e.Arguments, argumentName))
}

func allMatch(field, kind string, list []string, form *regexp.Regexp) error {
	for _, text := range list {
		if !form.MatchString(text) {
			return fmt.Errorf("%s: %q is no %s", field, text, kind)
		}
	}
	return nil
}

func number(digits string) int {
	n, err := strconv.Atoi(digits)
	if err != nil {
		return 0
	}
	return n
}
