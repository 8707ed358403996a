package canon

import (
	"encoding/base64"
	"net/http"
	"strings"
)

// readCredential reads Sallyport-Authorization, which names the gateway and nobody else. A request states one
// credential: a token beside a session cookie would leave open whose request it is.
func (q *Request) readCredential(r *http.Request, _ *Rules) *Reject {
	fields := r.Header["Sallyport-Authorization"]
	if fields == nil {
		return nil
	}
	scheme, token, _ := strings.Cut(fields[0], " ")
	switch {
	case len(fields) > 1:
		return reject(TwoCredentials, "sallyport-authorization twice")
	case !strings.EqualFold(scheme, "Bearer") || !isToken68(token):
		return reject(BadCredential, "sallyport-authorization")
	case len(q.Handles) > 0:
		return reject(TwoCredentials, "token beside a session cookie")
	}
	q.Token = token
	return nil
}

// ClaimAuthorization takes the Authorization field for the gateway: for apps with "authorization: gateway", before
// anybody is identified. A Bearer token, or the password of Basic (as git sends it), becomes Token; the field never
// reaches the app. Without the field it does nothing. The error is a *Reject.
func (q *Request) ClaimAuthorization() error {
	fields := q.Header["Authorization"]
	if fields == nil {
		return nil
	}
	delete(q.Header, "Authorization")
	token, ok := gatewayToken(fields[0])
	switch {
	case len(fields) > 1 || q.Token != "" || len(q.Handles) > 0:
		return reject(TwoCredentials, "authorization beside another credential")
	case !ok:
		return reject(BadCredential, "authorization")
	}
	q.Token = token
	return nil
}

// gatewayToken reads RFC 6750 §2.1, or RFC 7617 with the token as password.
func gatewayToken(field string) (token string, ok bool) {
	scheme, credentials, _ := strings.Cut(field, " ")
	switch {
	case strings.EqualFold(scheme, "Bearer"):
		return credentials, isToken68(credentials)
	case strings.EqualFold(scheme, "Basic"):
		pair, err := base64.StdEncoding.DecodeString(credentials)
		_, password, found := strings.Cut(string(pair), ":")
		return password, err == nil && found && isToken68(password)
	}
	return "", false
}

// isToken68 is the syntax of bearer tokens (RFC 9110 §11.2).
func isToken68(token string) bool {
	body := strings.TrimRight(token, "=")
	for i := 0; i < len(body); i++ {
		c := body[i]
		if !isPathChar(c) || strings.IndexByte("!$&'()*,;=:@%", c) >= 0 {
			return false
		}
	}
	return body != ""
}
