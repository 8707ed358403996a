package rawhttp

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// Target is a running gateway that guards an Origin.
type Target struct {
	Dialer
	Origin *Origin

	Host, Other, Auth string // authorities with port: the app's, another app's, the sign-in's
	Provider          string // authority of the identity provider, where sign-ins may lead

	// Session handles as the cookie __Host-sallyport carries them: a person for Host and for Other, and somebody else
	// who may use Host.
	Session, OtherSession, Neighbour string

	next *neighbour
}

// Run sends every case, with the session and as a stranger, and after each asks as the neighbour whether the gateway
// still gives everybody their own answers. The subtests are named by id, protocol and sender: PATH-01/http1/session.
// What it returns was answered, for a look into the audit log.
func Run(t *testing.T, target Target, cases []Case) (done []Outcome) {
	target.next = &neighbour{}
	defer target.next.close()
	groups, order := map[string][]Case{}, []string{}
	for _, c := range cases {
		for _, sender := range c.senders() {
			name := c.ID + "/" + c.Protocol() + "/" + sender
			if groups[name] == nil {
				order = append(order, name)
			}
			groups[name] = append(groups[name], c)
		}
	}
	slices.Sort(order)
	for _, name := range order {
		t.Run(name, func(t *testing.T) {
			for _, c := range groups[name] {
				outcome := target.Try(c, strings.HasSuffix(name, "/session"))
				for _, finding := range outcome.Findings {
					t.Errorf("%.80q: %s", c.Name, finding)
				}
				done = append(done, outcome)
			}
		})
	}
	return done
}

// senders are who sends a case.
func (c Case) senders() []string {
	if c.Anonymous {
		return []string{"stranger"}
	}
	return []string{"session", "stranger"}
}

// Outcome is what came of one case.
type Outcome struct {
	Case     Case // as it was sent
	Signed   bool // with the session
	Answers  []Answer
	Received []Message // by the app
	Findings []string  // what is wrong
}

// Send sends one case with the session and returns the word that stands for {id} in it. What comes of it is not looked at.
func (target Target) Send(c Case) (id string, answers []Answer) {
	c, id = target.fill(c, target.Session)
	answers, _ = target.send(c)
	return id, answers
}

// strangers are the answers that a case gets without a session.
func (c Case) strangers() []Class {
	if c.Stranger != nil {
		return c.Stranger
	}
	want := slices.Clone(c.Want)
	for i := range want {
		if want[i]&(Served|Denied) != 0 {
			want[i] = want[i]&^(Served|Denied) | SignIn
		}
	}
	return want
}

// findings gathers what is wrong.
type findings []string

func (f *findings) add(format string, args ...any) { *f = append(*f, fmt.Sprintf(format, args...)) }

// Try sends one case, with the session or as a stranger.
func (target Target) Try(c Case, signed bool) Outcome {
	if target.next == nil {
		target.next = &neighbour{}
		defer func() { target.next.close() }()
	}
	session := target.Session
	if !signed {
		session, c.Want = "", c.strangers()
	}
	var found findings
	c, id := target.fill(c, session)
	target.Origin.Forget()
	scripted := c.Script != "" && signed
	if scripted {
		target.Origin.AnswerOnce(c.Script)
	}
	answers, closed := target.send(c)
	target.checkAnswers(&found, c, answers, closed)
	served := 0
	for _, a := range answers {
		if a.Status == http.StatusOK && !bytes.HasPrefix(a.Body, []byte("<")) { // ours are pages
			served++
		}
	}
	if scripted {
		served = max(served, 1)
	}
	received := target.Origin.Received()
	target.checkReceived(&found, c, received, served)
	target.checkNeighbours(&found, c, id)
	return Outcome{Case: c, Signed: signed, Answers: answers, Received: received, Findings: found}
}

// fill replaces the placeholders.
func (target Target) fill(c Case, session string) (Case, string) {
	id := strings.ToLower(rand.Text())[:10]
	cookie, value, otherCookie := "visitor=1", rand.Text(), "visitor=2"
	if session != "" {
		cookie, value, otherCookie = "__Host-sallyport="+session, session, "__Host-sallyport="+target.OtherSession
	}
	hostname, _, _ := net.SplitHostPort(target.Host)
	inner := "GET /admin/smuggled-" + id + " HTTP/1.1\r\nHost: " + target.Host + "\r\nCookie: " + cookie + "\r\n\r\n"
	replacer := strings.NewReplacer("{host}", target.Host, "{hostname}", hostname, "{other}", target.Other, "{auth}", target.Auth,
		"{cookie}", cookie, "{inner length}", strconv.Itoa(len(inner)), "{value}", value, "{othercookie}", otherCookie, "{id}", id, "{inner}", inner,
		"{chunked inner}", strconv.FormatInt(int64(len(inner)), 16)+"\r\n"+inner+"\r\n")
	c.Raw = replacer.Replace(c.Raw)
	c.SNI, _, _ = strings.Cut(replacer.Replace(orElse(c.SNI, "{host}")), ":")
	if c.NoSNI {
		c.SNI = ""
	}
	c.Seen = eachString(c.Seen, replacer.Replace)
	c.Unseen = append(eachString(c.Unseen, replacer.Replace), "smuggled", target.Session, target.OtherSession, "__host-sallyport", "sallyport-authorization")
	c.Fields = slices.Clone(c.Fields)
	for i, f := range c.Fields {
		c.Fields[i] = Field{f.Name, replacer.Replace(f.Value)}
	}
	if c.Body != nil {
		c.Body = []byte(replacer.Replace(string(c.Body)))
	}
	if act := c.Frames; act != nil {
		c.Frames = func(w *Wire) {
			w.fill = replacer.Replace
			act(w)
		}
	}
	return c, id
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

func eachString(list []string, f func(string) string) []string {
	out := make([]string, 0, len(list)+5)
	for _, s := range list {
		out = append(out, f(s))
	}
	return out
}

// send sends the case the way it asks for.
func (target Target) send(c Case) (answers []Answer, closed bool) {
	if c.Plain {
		text, err := target.Plain(c.Raw)
		var status int
		fmt.Sscanf(text, "HTTP/1.0 %d", &status)
		return []Answer{{Status: status, Body: []byte(text), Ended: "closed"}}, err == nil
	}
	if c.Protocol() == "http2" {
		conn, err := target.DialH2(c.SNI)
		if err != nil {
			return []Answer{{Ended: err.Error()}}, true
		}
		defer conn.Close()
		if c.Frames != nil {
			c.Frames(&Wire{h2: conn})
			return []Answer{conn.settle(1)}, false
		}
		return []Answer{conn.Do(c.Fields, c.Body)}, false
	}
	conn, err := target.Dial(c.SNI)
	if err != nil {
		return []Answer{{Ended: err.Error()}}, true
	}
	defer conn.Close()
	last := message("GET /app/last HTTP/1.1", "Host: "+target.Host, "Connection: close")
	if c.Ends {
		last = ""
	}
	return conn.Exchange(c.Raw, len(c.Want), last)
}

func (target Target) checkAnswers(found *findings, c Case, answers []Answer, closed bool) {
	for i, a := range answers {
		// What follows the wanted answers are requests of their own, each with its own decision.
		want := Refused | Denied | SignIn | Misroute
		if i < len(c.Want) {
			want = c.Want[i]
		}
		if got := target.classify(a); got&want == 0 {
			found.add("answer %d is %v, want %v", i, a, want)
		}
		target.checkLeads(found, a)
		checkCookies(found, a)
		said := strings.ToLower(fmt.Sprint(a.Header) + string(a.Body))
		for _, word := range c.Unsaid {
			if strings.Contains(said, strings.ToLower(word)) {
				found.add("answer %d says %q: %v", i, word, a)
			}
		}
	}
	if len(answers) < len(c.Want) {
		found.add("%d answers, want %d", len(answers), len(c.Want))
	}
	if c.Closes && !closed {
		found.add("the connection stays open")
	}
	if c.Closes && len(answers) > len(c.Want) {
		found.add("%d answers, want %d and the end of the connection", len(answers), len(c.Want))
	}
}

func (target Target) classify(a Answer) Class {
	switch a.Status {
	case 0:
		return Hangup
	case 200:
		return Served | Elsewhere
	case 302, 303:
		if u, err := url.Parse(a.Header.Get("Location")); err == nil && u.Host == target.Auth {
			return SignIn | Elsewhere
		}
		return Elsewhere
	case 204:
		return Elsewhere
	case 400, 405, 413, 414, 417, 426, 431, 501, 505:
		return Refused | Elsewhere
	case 401:
		return SignIn | Elsewhere
	case 403:
		return Denied | Elsewhere
	case 404, 421:
		return Misroute | Elsewhere
	case 499: // said to nobody: the client had ended
		return Hangup
	case 502, 503, 504:
		return Broken
	}
	return 0
}

// checkLeads wants every Location to stay on our hosts or the provider's, and to carry only paths to return to.
func (target Target) checkLeads(found *findings, a Answer) {
	for _, location := range a.Header.Values("Location") {
		u, err := url.Parse(location)
		ours := []string{target.Host, target.Other, target.Auth, target.Provider}
		switch {
		case err != nil || strings.ContainsAny(location, "\\\t\r\n"):
			found.add("leads to %q: %v", location, err)
		case u.Host == "" && (!strings.HasPrefix(location, "/") || strings.HasPrefix(location, "//")), u.Host != "" && !slices.Contains(ours, u.Host):
			found.add("leads to %q", location)
		case u.User != nil || u.Host != target.Provider && u.Host != "" && u.Scheme != "https":
			found.add("leads to %q", location)
		}
		if rd, _, _ := strings.Cut(u.Query().Get("rd"), "?"); rd != "" && (!strings.HasPrefix(rd, "/") || strings.Contains(rd, "//") || strings.Contains(rd, `\`)) {
			found.add("returns to %q", rd)
		}
	}
}

// checkCookies is COOK-15, for every answer.
func checkCookies(found *findings, a Answer) {
	for _, line := range a.Header.Values("Set-Cookie") {
		lower := strings.ToLower(line)
		if !strings.HasPrefix(lower, "__host-sallyport") {
			continue
		}
		for _, attribute := range []string{"; secure", "; httponly", "; samesite=", "; path=/"} {
			if !strings.Contains(lower, attribute) || strings.Contains(lower, "samesite=none") || strings.Contains(lower, "domain=") {
				found.add("COOK-15: cookie %q", line)
			}
		}
	}
}

// checkReceived compares what reached the app with how many answers it gave.
func (target Target) checkReceived(found *findings, c Case, received []Message, served int) {
	if c.Torn {
		if len(received) > 1 {
			found.add("the app received %d messages, want at most 1: %q", len(received), received)
		}
	} else if len(received) != served {
		found.add("the app received %d requests, want %d: %q", len(received), served, received)
	}
	for i, m := range received {
		if m.Request == nil && !c.Torn {
			found.add("the app received what is no request: %q", m.Raw)
			continue
		}
		checkHead(found, m)
		head := strings.ToLower(m.Head())
		for _, word := range c.Unseen {
			if word != "" && strings.Contains(head, strings.ToLower(word)) {
				found.add("the app received %q in %q", word, m.Head())
			}
		}
		for _, word := range c.Seen {
			if i == 0 && !strings.Contains(m.Head(), word) {
				found.add("the app did not receive %q, but %q", word, m.Head())
			}
		}
	}
}

// checkHead is what holds for every head that reaches an app: clean lines, one framing, and each of the gateway's
// statements once.
func checkHead(found *findings, m Message) {
	head := m.Head()
	if strings.Count(head, "\n") != strings.Count(head, "\r\n") || strings.Count(head, "\r") != strings.Count(head, "\r\n") {
		found.add("the app received bare line ends: %q", head)
	}
	counts := map[string]int{}
	for line := range strings.SplitSeq(strings.ToLower(head), "\r\n") {
		name, _, _ := strings.Cut(line, ":")
		counts[name]++
	}
	if counts["content-length"]+counts["transfer-encoding"] > 1 {
		found.add("the app received two framings: %q", head)
	}
	for _, name := range []string{"host", "x-sallyport-user", "x-sallyport-email", "x-sallyport-groups", "x-sallyport-assertion",
		"x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-forwarded-port"} {
		if counts[name] != 1 {
			found.add("the app received %d %s: %q", counts[name], name, head)
		}
	}
	if !strings.Contains(head, "\r\nX-Forwarded-For: 127.0.0.1\r\n") {
		found.add("HDR-09: the app does not learn the peer's address: %q", head)
	}
}

// Head is the request line and the header, with the empty line that ends them.
func (m Message) Head() string {
	head, _, found := strings.Cut(m.Raw, "\r\n\r\n")
	if !found {
		return m.Raw
	}
	return head + "\r\n\r\n"
}

// neighbour is somebody else, on a connection that lasts from case to case: what one case leaves behind would show on it.
type neighbour struct {
	conn  *Conn
	asked int
}

func (n *neighbour) close() {
	if n.conn != nil {
		n.conn.Close()
	}
}

// neighbours is how many requests of somebody else follow each case that is about where messages end.
const neighbours = 3

// following is how many requests of somebody else follow a case. What the gateway answers by itself changes nothing for
// the app.
func (c Case) following() int {
	switch {
	case c.Own:
		return 0
	case c.Torn || c.Script != "" || c.Body != nil || strings.HasPrefix(c.ID, "SMUG") || strings.HasPrefix(c.ID, "H2") || strings.Contains(c.Raw, "\r\n\r\nGET "):
		return neighbours
	}
	return 1
}

// checkNeighbours asks as somebody else, on one connection, and wants each answer to be its own.
func (target Target) checkNeighbours(found *findings, c Case, id string) {
	target.Origin.Forget()
	want := c.following()
	for n := range want {
		line := fmt.Sprintf("GET /app/%s-after-%d HTTP/1.1", id, n)
		a := target.neighbourly(message(line, "Host: "+target.Host, "Cookie: __Host-sallyport="+target.Neighbour))
		if a.Status != http.StatusOK || string(a.Body) != line {
			found.add("a neighbour's request was answered with %v, want %q", a, line)
			return
		}
	}
	own := 0
	for _, m := range target.Origin.Received() {
		switch {
		case m.Request != nil && strings.Contains(m.Request.RequestURI, id+"-after-"):
			own++
		case c.Torn && (m.Request == nil || strings.HasPrefix(m.Request.RequestURI, "/app/"+id)): // may come late, or its end
		default:
			found.add("the app received %q besides the neighbours' requests", m)
		}
	}
	if own != want {
		found.add("the app received %d of %d requests of neighbours", own, want)
	}
}

// neighbourly asks as the neighbour. Connections are made anew before they have answered too many requests for a server.
func (target Target) neighbourly(raw string) Answer {
	next := target.next
	if next.conn == nil || next.asked == 500 {
		name, _, _ := net.SplitHostPort(target.Host)
		conn, err := target.Dial(name)
		if err != nil {
			return Answer{Ended: err.Error()}
		}
		if next.conn != nil {
			next.conn.Close()
		}
		next.conn, next.asked = conn, 0
	}
	next.asked++
	next.conn.Send(raw) // an error is seen when reading
	answer := next.conn.Receive("GET", answerWait)
	if answer.Status == 0 {
		next.conn.Close()
		next.conn = nil
	}
	return answer
}
