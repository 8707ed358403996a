package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

var errNotCanonical = errors.New("not in the canonical form: an unknown, repeated, misplaced, mistyped or missing field")

// ParseInput reads what AppendJSON wrote and nothing else: an unknown field, a repeated one, another order or
// spelling is an error, so that one input has one form and one digest.
//
// The strings of the input share one copy of the text: one that is kept for long keeps the others.
func ParseInput(data []byte) (*Input, error) {
	p := inputParser{recordScan: recordScan{text: data}, kept: string(data)}
	in := new(Input)
	in.parse(&p)
	if !p.broken && p.at < len(data) {
		p.fail()
	}
	if p.broken {
		return nil, fmt.Errorf("reading policy input: byte %d: %w", p.at, errNotCanonical)
	}
	return in, nil
}

// The parse methods follow the appendJSON methods line by line.

func (in *Input) parse(p *inputParser) {
	p.open("")
	p.document(`"subject":`)
	in.Subject.parse(p)
	p.document(`"action":`)
	in.Action.parse(p)
	p.document(`"resource":`)
	in.Resource.parse(p)
	p.document(`"context":`)
	in.Context.parse(p)
	p.close()
}

func (s *Subject) parse(p *inputParser) {
	s.Type = p.string(`"type":`)
	s.ID = p.known(`"id":`)
	s.Email = p.known(`"email":`)
	s.EmailVerified = p.bool(`"email_verified":`)
	s.Groups = p.strings(`"groups":`)
	s.GroupsIncomplete = p.bool(`"groups_incomplete":`)
	s.Claims = p.claims(`"claims":`)
	if p.open(`"authn":`) {
		s.Authn = new(Authn)
		s.Authn.parse(p)
	}
	if p.open(`"session":`) {
		s.Session = new(Session)
		s.Session.parse(p)
	}
	if p.open(`"token":`) {
		s.Token = new(Token)
		s.Token.parse(p)
	}
	if p.open(`"device":`) {
		s.Device = new(Device)
		s.Device.parse(p)
	}
	if p.open(`"cert":`) {
		s.Cert = new(Cert)
		s.Cert.parse(p)
	}
	s.CertProblem = p.known(`"cert_problem":`)
	s.Grants = p.grants(`"grants":`)
	p.close()
}

func (a *Authn) parse(p *inputParser) {
	a.Provider = p.string(`"provider":`)
	a.ACR = p.known(`"acr":`)
	a.AMR = p.strings(`"amr":`)
	a.Time = p.known(`"time":`)
	a.AgeS = p.age(`"age_s":`)
	a.MFA = p.bool(`"mfa":`)
	p.close()
}

func (s *Session) parse(p *inputParser) {
	s.ID = p.string(`"id":`)
	s.AgeS = p.age(`"age_s":`)
	s.IdleS = p.age(`"idle_s":`)
	p.close()
}

func (t *Token) parse(p *inputParser) {
	t.ID = p.string(`"id":`)
	t.Kind = p.string(`"kind":`)
	t.Name = p.string(`"name":`)
	t.Apps = p.strings(`"apps":`)
	t.Methods = p.strings(`"methods":`)
	t.Scopes = p.strings(`"scopes":`)
	t.Expires = p.string(`"expires":`)
	p.close()
}

func (d *Device) parse(p *inputParser) {
	d.ID = p.known(`"id":`)
	d.Platform = p.known(`"platform":`)
	d.Version = p.known(`"version":`)
	d.Managed = p.fact(`"managed":`)
	d.Compliant = p.fact(`"compliant":`)
	d.Encrypted = p.fact(`"encrypted":`)
	d.Source = p.known(`"source":`)
	d.AgeS = p.age(`"age_s":`)
	p.close()
}

func (c *Cert) parse(p *inputParser) {
	c.Fingerprint = p.string(`"fingerprint":`)
	c.Subject = p.string(`"subject":`)
	c.Issuer = p.string(`"issuer":`)
	c.Serial = p.string(`"serial":`)
	c.DNSNames = p.strings(`"dns_names":`)
	c.Emails = p.strings(`"emails":`)
	c.URIs = p.strings(`"uris":`)
	c.NotAfter = p.string(`"not_after":`)
	p.close()
}

func (g *Grant) parse(p *inputParser) {
	g.ID = p.string(`"id":`)
	g.App = p.string(`"app":`)
	g.Name = p.string(`"name":`)
	g.Expires = p.known(`"expires":`)
	p.close()
}

func (a *Action) parse(p *inputParser) {
	a.Name = p.string(`"name":`)
	a.Method = p.string(`"method":`)
	a.Protocol = p.string(`"protocol":`)
	a.Upgrade = p.string(`"upgrade":`)
	p.close()
}

func (r *Resource) parse(p *inputParser) {
	r.Type = p.string(`"type":`)
	r.ID = p.string(`"id":`)
	r.Labels = p.stringMap(`"labels":`)
	r.Sensitivity = p.string(`"sensitivity":`)
	r.Owner = p.string(`"owner":`)
	r.Host = p.string(`"host":`)
	r.Path = p.string(`"path":`)
	r.Segments = p.strings(`"segments":`)
	r.Query = p.string(`"query":`)
	p.close()
}

func (c *Context) parse(p *inputParser) {
	c.TimeNS = p.int64(`"time_ns":`)
	c.Time = p.string(`"time":`)
	c.Weekday = p.string(`"weekday":`)
	c.Hour = p.int(`"hour":`)
	p.document(`"client":`)
	c.Client.parse(p)
	if p.open(`"tls":`) {
		c.TLS = new(TLS)
		c.TLS.parse(p)
	}
	p.document(`"request":`)
	c.Request.parse(p)
	if p.open(`"shield":`) {
		c.Shield = new(Shield)
		c.Shield.parse(p)
	}
	p.close()
}

func (c *Client) parse(p *inputParser) {
	c.IP = p.known(`"ip":`)
	c.Zone = p.known(`"zone":`)
	c.Country = p.known(`"country":`)
	p.close()
}

func (t *TLS) parse(p *inputParser) {
	t.Version = p.string(`"version":`)
	t.Cipher = p.string(`"cipher":`)
	t.SNI = p.string(`"sni":`)
	t.ALPN = p.string(`"alpn":`)
	p.close()
}

func (r *Request) parse(p *inputParser) {
	r.ID = p.string(`"id":`)
	r.ContentType = p.string(`"content_type":`)
	if p.key(`"content_length":`) {
		r.ContentLength = new(p.readInt())
	}
	r.UserAgent = p.string(`"user_agent":`)
	r.Origin = p.string(`"origin":`)
	r.FetchSite = p.string(`"fetch_site":`)
	r.CrossOrigin = p.bool(`"cross_origin":`)
	r.CrossSiteUnsafe = p.fact(`"cross_site_unsafe":`)
	r.Headers = p.stringMap(`"headers":`)
	p.close()
}

func (s *Shield) parse(p *inputParser) {
	s.Score = p.int(`"score":`)
	s.Rules = p.ints(`"rules":`)
	s.Body = p.string(`"body":`)
	s.Timeout = p.bool(`"timeout":`)
	p.close()
}

// inputParser reads an input from the left. The methods that take a key read a field; those that are called read… read a
// value. After a failure nothing is read any more, and values are zero.
type inputParser struct {
	recordScan
	kept  string     // the text again, for the strings to be parts of
	space [64]string // for the elements of a list, until they are counted
}

// field passes over the name of a field that every input has.
func (p *inputParser) field(key string) {
	if !p.key(key) {
		p.fail()
	}
}

// document enters a document that every input has.
func (p *inputParser) document(key string) {
	if !p.open(key) {
		p.fail()
	}
}

func (p *inputParser) string(key string) string {
	p.field(key)
	return p.readString()
}

// known is what appendKnown wrote.
func (p *inputParser) known(key string) string {
	if !p.key(key) {
		return ""
	}
	s := p.readString()
	if s == "" {
		p.fail()
	}
	return s
}

func (p *inputParser) bool(key string) bool {
	p.field(key)
	return p.readBool()
}

func (p *inputParser) fact(key string) *bool {
	if !p.key(key) {
		return nil
	}
	return new(p.readBool())
}

func (p *inputParser) int(key string) int {
	n := p.int64(key)
	if int64(int(n)) != n { // where an int has 32 bits
		p.fail()
	}
	return int(n)
}

func (p *inputParser) int64(key string) int64 {
	p.field(key)
	return p.readInt()
}

func (p *inputParser) age(key string) Age {
	if !p.key(key) {
		return Age{}
	}
	seconds := p.readInt()
	if seconds < 0 || seconds%60 != 0 {
		p.fail()
	}
	return Age{seconds: seconds, known: true}
}

func (p *inputParser) strings(key string) []string {
	p.field(key)
	found := p.space[:0]
	p.elements(func() { found = append(found, p.readString()) })
	list := make([]string, len(found))
	copy(list, found)
	return list
}

func (p *inputParser) ints(key string) []int64 {
	p.field(key)
	list := []int64{}
	p.elements(func() { list = append(list, p.readInt()) })
	return list
}

func (p *inputParser) grants(key string) []Grant {
	p.field(key)
	list := []Grant{}
	p.elements(func() {
		var g Grant
		p.open("")
		g.parse(p)
		list = append(list, g)
	})
	return list
}

func (p *inputParser) stringMap(key string) map[string]string {
	p.field(key)
	m := make(map[string]string)
	p.members(func(name string) { m[name] = p.readString() })
	return m
}

func (p *inputParser) claims(key string) map[string]any {
	p.field(key)
	return p.readObject(3) // in the input, in the subject
}

// elements reads a list, each element by calling read.
func (p *inputParser) elements(read func()) {
	p.want("[")
	if p.skip("]") {
		return
	}
	read()
	for p.skip(",") {
		read()
	}
	p.want("]")
}

// members reads an object, each value by calling read. The names are in order, and so none comes twice.
func (p *inputParser) members(read func(name string)) {
	p.want("{")
	if p.skip("}") {
		return
	}
	last := ""
	for first := true; first || p.skip(","); first = false {
		name := p.readString()
		if !first && name <= last {
			p.fail()
		}
		p.want(":")
		read(name)
		last = name
	}
	p.want("}")
}

// maxNesting is how many lists and objects can be in one another: where encoding/json stops.
const maxNesting = 10_000

// readValue reads what appendValue wrote. The value is within depth lists and objects.
func (p *inputParser) readValue(depth int) any {
	switch p.next() {
	case '"':
		return p.readString()
	case '{':
		return p.readObject(depth + 1)
	case '[':
		return p.readArray(depth + 1)
	case 't', 'f':
		return p.readBool()
	case 'n':
		p.want("null")
		return nil
	}
	return p.readNumber()
}

func (p *inputParser) readObject(depth int) map[string]any {
	if depth > maxNesting {
		p.fail()
	}
	m := make(map[string]any)
	p.members(func(name string) { m[name] = p.readValue(depth) })
	return m
}

func (p *inputParser) readArray(depth int) []any {
	if depth > maxNesting {
		p.fail()
	}
	list := []any{}
	p.elements(func() { list = append(list, p.readValue(depth)) })
	return list
}

func (p *inputParser) readBool() bool {
	if p.skip("true") {
		return true
	}
	p.want("false")
	return false
}

// readInt reads an integer that is spelt as strconv spells it: without plus, leading zeros, fraction or exponent.
func (p *inputParser) readInt() int64 {
	digits := p.numeral()
	n, err := strconv.ParseInt(digits, 10, 64)
	var space [20]byte
	if err != nil || string(strconv.AppendInt(space[:0], n, 10)) != digits {
		p.fail()
		return 0
	}
	p.at += len(digits)
	return n
}

// readNumber reads a number of a claim, which keeps its spelling.
func (p *inputParser) readNumber() json.Number {
	n := p.numeral()
	if !isNumber(n) {
		p.fail()
		return ""
	}
	p.at += len(n)
	return json.Number(n)
}

// numeral is what comes next of the characters that numbers are made of.
func (p *inputParser) numeral() string {
	end := p.at
	for end < len(p.text) && numeric[p.text[end]] {
		end++
	}
	return p.kept[p.at:end]
}

var numeric = func() (t [256]bool) {
	for _, c := range []byte("0123456789+-.eE") {
		t[c] = true
	}
	return t
}()

// readString reads what appendString wrote.
func (p *inputParser) readString() string {
	p.want(`"`)
	end := shownEnd(p.text, p.at)
	if end < len(p.text) && p.text[end] == '"' {
		s := p.kept[p.at:end]
		p.at = end + 1
		return s
	}
	return p.readEscaped(end)
}

// readEscaped reads a string on, the part before end of which stands for itself.
func (p *inputParser) readEscaped(end int) string {
	b := append(make([]byte, 0, end-p.at+64), p.kept[p.at:end]...)
	for p.at = end; p.next() == '\\'; p.at = end {
		c, size := unescape(p.text[p.at:])
		if size == 0 {
			break
		}
		p.at += size
		end = shownEnd(p.text, p.at)
		b = append(utf8.AppendRune(b, c), p.kept[p.at:end]...)
	}
	p.want(`"`)
	return string(b)
}

// shownEnd is the index of the first byte from i that is not part of a character that stands for itself.
func shownEnd(text []byte, i int) int {
	for i < len(text) {
		if plain[text[i]] {
			i++
			continue
		}
		if text[i] < utf8.RuneSelf {
			break
		}
		r, size := utf8.DecodeRune(text[i:])
		if !shown(r) {
			break
		}
		i += size
	}
	return i
}

// unescape is the escaped character that text begins with, and the length of its escape. That is 0 unless it is the one
// that appendString writes.
func unescape(text []byte) (r rune, size int) {
	if len(text) < len(`\n`) {
		return 0, 0
	}
	switch c := text[1]; c {
	case 'b':
		r = '\b'
	case 'f':
		r = '\f'
	case 'n':
		r = '\n'
	case 'r':
		r = '\r'
	case 't':
		r = '\t'
	case 'u':
		if r = unit(text); utf16.IsSurrogate(r) {
			r = utf16.DecodeRune(r, unit(text[len(`\uffff`):]))
		}
	default:
		r = rune(c)
	}
	var space [len(`\uffff\uffff`)]byte
	if spelt := appendEscape(space[:0], r); len(spelt) > 0 && bytes.HasPrefix(text, spelt) {
		return r, len(spelt)
	}
	return 0, 0
}

// appendEscape appends r as appendString does where it does not stand for itself; else nothing.
func appendEscape(b []byte, r rune) []byte {
	switch {
	case r < 0:
		return b
	case r >= utf8.RuneSelf && !shown(r):
		return appendUnit(b, r)
	case r < utf8.RuneSelf && !plain[r]:
		return appendEscaped(b, byte(r))
	}
	return b
}

// unit is the character number behind \u, or -1.
func unit(text []byte) rune {
	if len(text) < len(`\uffff`) {
		return -1
	}
	n, err := strconv.ParseUint(string(text[len(`\u`):len(`\uffff`)]), 16, 16)
	if err != nil {
		return -1
	}
	return rune(n)
}

// next is the byte that comes next, or 0.
func (p *inputParser) next() byte {
	if p.at >= len(p.text) {
		return 0
	}
	return p.text[p.at]
}
