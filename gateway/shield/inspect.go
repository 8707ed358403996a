package shield

import (
	"cmp"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/corazawaf/coraza/v3/experimental/plugins/plugintypes"
	"github.com/corazawaf/coraza/v3/types"
)

// Request is what is inspected. Nothing of it may change until the inspection has ended, which can be long after its time
// was over: a header that somebody goes on to edit must be a copy.
type Request struct {
	Method, Protocol string
	Host             string      // as the client addressed it
	Path             string      // canonical and decoded, which exclusions are for
	Target           string      // path and query as they go to the app
	Header           http.Header // without the gateway's own credentials
	Client           string      // address
	Length           int64       // of the body; -1: not announced
	Body             []byte      // the beginning of the body, at most [Inspector.Cap]
	Whole            bool        // that is all of it
}

// Findings are what an inspection found.
type Findings struct {
	Score   int     // sum of the scores of the rules that match
	Rules   []int64 // ids of rules that match and score, sorted; the [MaxRules] gravest
	Body    Body    // what was seen of the body
	Timeout bool    // there was no time: the rest says nothing
}

// MaxRules bounds Findings.Rules, so that an input with them always fits its record.
const MaxRules = 32

// Cap is how many bytes of a body the inspector looks at.
func (i *Inspector) Cap() int { return int(i.limit.Body) }

// Inspect looks at a request for as long as that takes, which for some is seconds: see [Shield.Inspect].
func (i *Inspector) Inspect(q *Request) Findings {
	tx := i.set(q.Path).NewTransaction()
	// Nothing is written that could fail to be removed, and ProcessLogging, which would print what matched, is not called.
	defer tx.Close()
	content := read(&i.limit, q.Header.Get("Content-Type"), q.Header.Get("Content-Encoding"), q.Body, q.Whole)
	tx.ProcessConnection(q.Client, 0, "", 0)
	tx.ProcessURI(q.Target, q.Method, q.Protocol)
	addHeaders(tx, q)
	if _, query, has := strings.Cut(q.Target, "?"); has && strings.Count(query, "&") >= i.limit.Arguments {
		content.find(FindingArguments)
	}
	content.show(tx)
	tx.ProcessRequestHeaders()
	tx.ProcessRequestBody() // no body was written to it: it evaluates the rules, and cannot fail
	score := 0
	if values := state(tx).TX().Get("blocking_inbound_anomaly_score"); len(values) > 0 {
		score, _ = strconv.Atoi(values[0])
	}
	return Findings{Score: score, Rules: matched(tx), Body: content.seen}
}

func state(tx types.Transaction) plugintypes.TransactionVariables {
	return tx.(plugintypes.TransactionState).Variables()
}

// addHeaders shows the head. Expect is between the client and the gateway, which has answered it.
func addHeaders(tx types.Transaction, q *Request) {
	tx.AddRequestHeader("Host", q.Host)
	if host, _, err := net.SplitHostPort(q.Host); err == nil {
		tx.SetServerName(host)
	} else {
		tx.SetServerName(q.Host)
	}
	for name, values := range q.Header {
		if name == "Expect" || name == "Content-Length" || name == "Transfer-Encoding" {
			continue
		}
		for _, value := range values {
			tx.AddRequestHeader(name, value)
		}
	}
	switch { // one framing, as the app will see it
	case q.Length > 0 || q.Length == 0 && (q.Method == http.MethodPost || q.Method == http.MethodPut):
		tx.AddRequestHeader("Content-Length", strconv.FormatInt(q.Length, 10))
	case q.Length < 0:
		tx.AddRequestHeader("Transfer-Encoding", "chunked")
	}
}

// show puts what a body holds where the rules look for it.
func (c *content) show(tx types.Transaction) {
	v := state(tx)
	set(v.RequestBodyProcessor(), c.processor)
	if c.raw != "" {
		set(v.RequestBody(), c.raw)
		set(v.RequestBodyLength(), strconv.Itoa(len(c.raw)))
	}
	for _, a := range c.args {
		tx.AddPostRequestArgument(a.name, a.value)
	}
	for _, p := range c.parts {
		v.MultipartPartHeaders().Add(p.name, p.value)
	}
	for _, f := range c.files {
		v.Files().Add("", f.value)
		v.FilesNames().Add("", f.name)
		v.MultipartFilename().Add(f.name, f.value)
		v.MultipartName().Add(f.name, f.name)
	}
	if c.processor == "XML" {
		v.RequestXML().Set("//@*", c.attrs)
		v.RequestXML().Set("/*", c.texts)
	}
	for _, id := range c.findings {
		v.TX().Set(flag(id), []string{"1"})
	}
}

// set writes a variable of one value: Coraza's interface only reads it, for no reason that it gives.
func set(variable any, value string) { variable.(interface{ Set(string) }).Set(value) }

// matched are the rules that scored: those with a severity.
func matched(tx types.Transaction) []int64 {
	var found []types.RuleMetadata
	for _, m := range tx.MatchedRules() {
		if rule := m.Rule(); rule.Severity() >= 0 {
			found = append(found, rule)
		}
	}
	slices.SortStableFunc(found, func(a, b types.RuleMetadata) int { return cmp.Compare(a.Severity(), b.Severity()) })
	var ids []int64
	for _, rule := range found {
		if id := int64(rule.ID()); !slices.Contains(ids, id) && len(ids) < MaxRules {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}
