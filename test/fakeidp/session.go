package fakeidp

import (
	"crypto/rand"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// login is a browser's session at the provider.
type login struct {
	sid, sub, acr string
	amr           []string
	at            time.Time // when the person proved themselves
}

// family is what grew out of one code: refresh tokens, each good for one use.
type family struct {
	grant   grant
	current string // the one that is good; empty: none any more
}

// Disable makes the provider refuse an account: to sign it in, and to refresh its tokens.
func (p *Provider) Disable(sub string) { p.setDisabled(sub, true) }

// Enable undoes Disable. Refresh tokens that were refused stay dead.
func (p *Provider) Enable(sub string) { p.setDisabled(sub, false) }

func (p *Provider) setDisabled(sub string, disabled bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.disabled[sub] = disabled
}

// Offer makes the provider sign people in with the first acr of acr_values that is offered, and the amr that stands for it.
// From the start it offers none and says of everybody what SetPerson says.
func (p *Provider) Offer(amr map[string][]string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.offered = maps.Clone(amr)
}

// Forget ends every session of the provider itself, without telling anybody. Browsers sign in anew.
func (p *Provider) Forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.sessions)
}

// Age makes every session of the provider older.
func (p *Provider) Age(by time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.sessions {
		s.at = s.at.Add(-by)
	}
}

// cookie differs between providers on one host, whose ports browsers do not tell apart.
func (p *Provider) cookie() string {
	return "fakeidp_" + strings.NewReplacer(":", "_", "/", "_", ".", "_").Replace(p.Server.Listener.Addr().String())
}

// signInLocked finds the browser's session or begins one, as the request asks (OpenID Connect Core §3.1.2.3), or says why not.
func (p *Provider) signInLocked(w http.ResponseWriter, r *http.Request, q url.Values) (*login, string) {
	sub, _ := p.person["sub"].(string)
	prompt := strings.Fields(q.Get("prompt"))
	if p.disabled[sub] {
		return nil, "access_denied"
	}
	acr := p.chooseLocked(q.Get("acr_values"))
	s := p.sessionLocked(r, sub)
	if s != nil && !slices.Contains(prompt, "login") && !tooOld(s, q.Get("max_age")) && (acr == "" || s.acr == acr) {
		return s, ""
	}
	if slices.Contains(prompt, "none") {
		return nil, "login_required"
	}
	if s == nil {
		s = &login{sid: rand.Text(), sub: sub}
		p.sessions[s.sid] = s
		http.SetCookie(w, &http.Cookie{Name: p.cookie(), Value: s.sid, Path: "/", HttpOnly: true})
	}
	if s.at = time.Now(); acr != "" {
		s.acr, s.amr = acr, p.offered[acr]
	}
	return s, ""
}

func (p *Provider) sessionLocked(r *http.Request, sub string) *login {
	c, err := r.Cookie(p.cookie())
	if err != nil {
		return nil
	}
	if s := p.sessions[c.Value]; s != nil && s.sub == sub {
		return s
	}
	return nil
}

func (p *Provider) chooseLocked(acrValues string) string {
	for acr := range strings.FieldsSeq(acrValues) {
		if _, offered := p.offered[acr]; offered {
			return acr
		}
	}
	return ""
}

func tooOld(s *login, maxAge string) bool {
	seconds, err := strconv.Atoi(maxAge)
	return err == nil && time.Since(s.at) >= time.Duration(seconds)*time.Second
}

func (p *Provider) startFamilyLocked(g grant) string {
	f := &family{grant: g, current: rand.Text()}
	f.grant.nonce = ""
	p.refresh[f.current] = f
	return f.current
}

// rotateLocked uses up a refresh token. One that was used before is stolen, or was: its whole family dies (RFC 9700 §4.14.2).
func (p *Provider) rotateLocked(token string) (grant, string, bool) {
	f := p.refresh[token]
	if f == nil {
		return grant{}, "", false
	}
	if f.current != token || p.disabled[f.grant.login.sub] {
		f.current = ""
		return grant{}, "", false
	}
	f.current = rand.Text()
	p.refresh[f.current] = f
	return f.grant, f.current, true
}

// Overage makes these the groups of everybody: too many for a token, as Entra ID does it. The ID token says so and names an
// address that nobody should call; "/groups" and "/v1.0/me/getMemberObjects" list them, 100 a page. Nil undoes it.
func (p *Provider) Overage(groups []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.many = slices.Clone(groups)
}

func (p *Provider) groupsClaimLocked(claims jwt.MapClaims) {
	if p.many == nil {
		return
	}
	delete(claims, "groups")
	claims["_claim_names"] = map[string]any{"groups": "src1"}
	claims["_claim_sources"] = map[string]any{"src1": map[string]any{"endpoint": p.Issuer + "/trap"}}
}

func (p *Provider) groups(s Script, w http.ResponseWriter, r *http.Request) {
	if s.Groups != nil && s.Groups(w, r) {
		return
	}
	if !strings.HasPrefix(r.Header.Get("Authorization"), "Bearer access-") {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	if post := strings.HasSuffix(r.URL.Path, "/getMemberObjects"); post != (r.Method == http.MethodPost) {
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	p.mu.Lock()
	all := slices.Clone(p.many)
	p.mu.Unlock()
	from, _ := strconv.Atoi(r.URL.Query().Get("from"))
	from = min(max(from, 0), len(all))
	to := min(from+100, len(all))
	page := map[string]any{"value": all[from:to]}
	if to < len(all) {
		page["@odata.nextLink"] = p.Issuer + r.URL.Path + "?from=" + strconv.Itoa(to)
	}
	writeJSON(w, http.StatusOK, page)
}

func (p *Provider) trap(_ Script, w http.ResponseWriter, _ *http.Request) {
	w.WriteHeader(http.StatusTeapot)
}
