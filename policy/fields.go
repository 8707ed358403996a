package policy

import (
	"encoding/binary"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// field is a part of the input that policies are found to read or not: a leaf, or a small document that is taken whole.
type field uint8

const (
	fieldSubjectType field = iota
	fieldSubjectID
	fieldEmail
	fieldEmailVerified
	fieldGroups
	fieldGroupsIncomplete
	fieldClaims
	fieldAuthnProvider
	fieldAuthnACR
	fieldAuthnAMR
	fieldAuthnTime
	fieldAuthnAge
	fieldAuthnMFA
	fieldSessionID
	fieldSessionAge
	fieldSessionIdle
	fieldTokenID
	fieldTokenKind
	fieldTokenName
	fieldTokenApps
	fieldTokenMethods
	fieldTokenScopes
	fieldTokenExpires
	fieldDevice
	fieldCert
	fieldCertProblem
	fieldGrants
	fieldActionName
	fieldMethod
	fieldProtocol
	fieldUpgrade
	fieldResourceType
	fieldResourceID
	fieldLabels
	fieldSensitivity
	fieldOwner
	fieldHost
	fieldPath
	fieldSegments
	fieldQuery
	fieldTimeNS
	fieldTime
	fieldWeekday
	fieldHour
	fieldClientIP
	fieldClientZone
	fieldClientCountry
	fieldTLS
	fieldRequestID
	fieldContentType
	fieldContentLength
	fieldUserAgent
	fieldOrigin
	fieldFetchSite
	fieldCrossOrigin
	fieldCrossSiteUnsafe
	fieldHeaders
	fieldShield
	fields // their number
)

// fieldPaths are the places of the fields under input.
var fieldPaths = [fields]string{
	fieldSubjectType:      "subject.type",
	fieldSubjectID:        "subject.id",
	fieldEmail:            "subject.email",
	fieldEmailVerified:    "subject.email_verified",
	fieldGroups:           "subject.groups",
	fieldGroupsIncomplete: "subject.groups_incomplete",
	fieldClaims:           "subject.claims",
	fieldAuthnProvider:    "subject.authn.provider",
	fieldAuthnACR:         "subject.authn.acr",
	fieldAuthnAMR:         "subject.authn.amr",
	fieldAuthnTime:        "subject.authn.time",
	fieldAuthnAge:         "subject.authn.age_s",
	fieldAuthnMFA:         "subject.authn.mfa",
	fieldSessionID:        "subject.session.id",
	fieldSessionAge:       "subject.session.age_s",
	fieldSessionIdle:      "subject.session.idle_s",
	fieldTokenID:          "subject.token.id",
	fieldTokenKind:        "subject.token.kind",
	fieldTokenName:        "subject.token.name",
	fieldTokenApps:        "subject.token.apps",
	fieldTokenMethods:     "subject.token.methods",
	fieldTokenScopes:      "subject.token.scopes",
	fieldTokenExpires:     "subject.token.expires",
	fieldDevice:           "subject.device",
	fieldCert:             "subject.cert",
	fieldCertProblem:      "subject.cert_problem",
	fieldGrants:           "subject.grants",
	fieldActionName:       "action.name",
	fieldMethod:           "action.method",
	fieldProtocol:         "action.protocol",
	fieldUpgrade:          "action.upgrade",
	fieldResourceType:     "resource.type",
	fieldResourceID:       "resource.id",
	fieldLabels:           "resource.labels",
	fieldSensitivity:      "resource.sensitivity",
	fieldOwner:            "resource.owner",
	fieldHost:             "resource.host",
	fieldPath:             "resource.path",
	fieldSegments:         "resource.segments",
	fieldQuery:            "resource.query",
	fieldTimeNS:           "context.time_ns",
	fieldTime:             "context.time",
	fieldWeekday:          "context.weekday",
	fieldHour:             "context.hour",
	fieldClientIP:         "context.client.ip",
	fieldClientZone:       "context.client.zone",
	fieldClientCountry:    "context.client.country",
	fieldTLS:              "context.tls",
	fieldRequestID:        "context.request.id",
	fieldContentType:      "context.request.content_type",
	fieldContentLength:    "context.request.content_length",
	fieldUserAgent:        "context.request.user_agent",
	fieldOrigin:           "context.request.origin",
	fieldFetchSite:        "context.request.fetch_site",
	fieldCrossOrigin:      "context.request.cross_origin",
	fieldCrossSiteUnsafe:  "context.request.cross_site_unsafe",
	fieldHeaders:          "context.request.headers",
	fieldShield:           "context.shield",
}

// volatile reports whether the field differs in every request, so that no answer that depends on it comes twice.
func (f field) volatile() bool { return f == fieldTimeNS || f == fieldTime || f == fieldRequestID }

// fieldSet is a set of fields.
type fieldSet [fields]bool

// read adds what a reference to input reads: the fields it lies in and those that lie in it. Only the part before the
// first variable counts.
func (s *fieldSet) read(ref ast.Ref) {
	var path []string
	for _, t := range ref[1:] {
		name, constant := t.Value.(ast.String)
		if !constant {
			break
		}
		path = append(path, string(name))
	}
	for f := range fieldPaths {
		if related(path, strings.Split(fieldPaths[f], ".")) {
			s[f] = true
		}
	}
}

// related reports whether one path begins with the other.
func related(a, b []string) bool {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// list is the set's fields in order.
func (s *fieldSet) list() []field {
	var list []field
	for f, has := range s {
		if has {
			list = append(list, field(f))
		}
	}
	return list
}

// project appends the fields' values to b in a form from which they could be read back, so that two inputs have the
// same projection exactly if they agree in the fields.
func (in *Input) project(b []byte, list []field) []byte {
	for _, f := range list {
		b = in.appendField(b, f)
	}
	return b
}

func (in *Input) appendField(b []byte, f field) []byte {
	s, a, r, c := &in.Subject, &in.Action, &in.Resource, &in.Context
	switch f {
	case fieldSubjectType:
		return appendText(b, s.Type)
	case fieldSubjectID:
		return appendText(b, s.ID)
	case fieldEmail:
		return appendText(b, s.Email)
	case fieldEmailVerified:
		return appendFlag(b, s.EmailVerified)
	case fieldGroups:
		if p := s.ready(); p != nil {
			return append(append(b, digested...), p.groups[:]...)
		}
		return appendTexts(b, s.Groups)
	case fieldGroupsIncomplete:
		return appendFlag(b, s.GroupsIncomplete)
	case fieldClaims:
		return appendValue(b, s.Claims)
	case fieldAuthnProvider, fieldAuthnACR, fieldAuthnAMR, fieldAuthnTime, fieldAuthnAge, fieldAuthnMFA:
		return s.Authn.appendField(b, f)
	case fieldSessionID, fieldSessionAge, fieldSessionIdle:
		return s.Session.appendField(b, f)
	case fieldTokenID, fieldTokenKind, fieldTokenName, fieldTokenApps, fieldTokenMethods, fieldTokenScopes, fieldTokenExpires:
		return s.Token.appendField(b, f)
	case fieldDevice:
		if s.Device == nil {
			return append(b, 0)
		}
		return s.Device.appendJSON(append(b, 1))
	case fieldCert:
		if s.Cert == nil {
			return append(b, 0)
		}
		return s.Cert.appendJSON(append(b, 1))
	case fieldCertProblem:
		return appendText(b, s.CertProblem)
	case fieldGrants:
		b = binary.AppendUvarint(b, uint64(len(s.Grants)))
		for i := range s.Grants {
			b = s.Grants[i].appendJSON(b)
		}
		return b
	case fieldActionName:
		return appendText(b, a.Name)
	case fieldMethod:
		return appendText(b, a.Method)
	case fieldProtocol:
		return appendText(b, a.Protocol)
	case fieldUpgrade:
		return appendText(b, a.Upgrade)
	case fieldResourceType:
		return appendText(b, r.Type)
	case fieldResourceID:
		return appendText(b, r.ID)
	case fieldLabels:
		return appendStringMap(b, r.Labels)
	case fieldSensitivity:
		return appendText(b, r.Sensitivity)
	case fieldOwner:
		return appendText(b, r.Owner)
	case fieldHost:
		return appendText(b, r.Host)
	case fieldPath:
		return appendText(b, r.Path)
	case fieldSegments:
		return appendTexts(b, r.Segments)
	case fieldQuery:
		return appendText(b, r.Query)
	case fieldTimeNS:
		return binary.AppendVarint(b, c.TimeNS)
	case fieldTime:
		return appendText(b, c.Time)
	case fieldWeekday:
		return appendText(b, c.Weekday)
	case fieldHour:
		return binary.AppendVarint(b, int64(c.Hour))
	case fieldClientIP:
		return appendText(b, c.Client.IP)
	case fieldClientZone:
		return appendText(b, c.Client.Zone)
	case fieldClientCountry:
		return appendText(b, c.Client.Country)
	case fieldTLS:
		if c.TLS == nil {
			return append(b, 0)
		}
		return c.TLS.appendJSON(append(b, 1))
	case fieldRequestID:
		return appendText(b, c.Request.ID)
	case fieldContentType:
		return appendText(b, c.Request.ContentType)
	case fieldContentLength:
		if c.Request.ContentLength == nil {
			return append(b, 0)
		}
		return binary.AppendVarint(append(b, 1), *c.Request.ContentLength)
	case fieldUserAgent:
		return appendText(b, c.Request.UserAgent)
	case fieldOrigin:
		return appendText(b, c.Request.Origin)
	case fieldFetchSite:
		return appendText(b, c.Request.FetchSite)
	case fieldCrossOrigin:
		return appendFlag(b, c.Request.CrossOrigin)
	case fieldCrossSiteUnsafe:
		if c.Request.CrossSiteUnsafe == nil {
			return append(b, 0)
		}
		return appendFlag(append(b, 1), *c.Request.CrossSiteUnsafe)
	case fieldHeaders:
		return appendStringMap(b, c.Request.Headers)
	case fieldShield:
		if c.Shield == nil {
			return append(b, 0)
		}
		return c.Shield.appendJSON(append(b, 1))
	}
	panic("BUG: input field without projection: " + fieldPaths[f])
}

// digested stands before the digest of a list in a projection. As the number of a list's elements it would be 2⁶³-1.
const digested = "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00"

func (a *Authn) appendField(b []byte, f field) []byte {
	if a == nil {
		return append(b, 0)
	}
	b = append(b, 1)
	switch f {
	case fieldAuthnProvider:
		return appendText(b, a.Provider)
	case fieldAuthnACR:
		return appendText(b, a.ACR)
	case fieldAuthnAMR:
		return appendTexts(b, a.AMR)
	case fieldAuthnTime:
		return appendText(b, a.Time)
	case fieldAuthnAge:
		return appendMinutes(b, a.AgeS)
	case fieldAuthnMFA:
		return appendFlag(b, a.MFA)
	}
	panic("BUG: authn field without projection: " + fieldPaths[f])
}

func (s *Session) appendField(b []byte, f field) []byte {
	if s == nil {
		return append(b, 0)
	}
	b = append(b, 1)
	switch f {
	case fieldSessionID:
		return appendText(b, s.ID)
	case fieldSessionAge:
		return appendMinutes(b, s.AgeS)
	case fieldSessionIdle:
		return appendMinutes(b, s.IdleS)
	}
	panic("BUG: session field without projection: " + fieldPaths[f])
}

func (t *Token) appendField(b []byte, f field) []byte {
	if t == nil {
		return append(b, 0)
	}
	b = append(b, 1)
	switch f {
	case fieldTokenID:
		return appendText(b, t.ID)
	case fieldTokenKind:
		return appendText(b, t.Kind)
	case fieldTokenName:
		return appendText(b, t.Name)
	case fieldTokenApps:
		return appendTexts(b, t.Apps)
	case fieldTokenMethods:
		return appendTexts(b, t.Methods)
	case fieldTokenScopes:
		return appendTexts(b, t.Scopes)
	case fieldTokenExpires:
		return appendText(b, t.Expires)
	}
	panic("BUG: token field without projection: " + fieldPaths[f])
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendTexts(b []byte, ss []string) []byte {
	b = binary.AppendUvarint(b, uint64(len(ss)))
	for _, s := range ss {
		b = appendText(b, s)
	}
	return b
}

func appendFlag(b []byte, set bool) []byte {
	if set {
		return append(b, 1)
	}
	return append(b, 0)
}

func appendMinutes(b []byte, a Age) []byte {
	return binary.AppendVarint(appendFlag(b, a.known), a.seconds)
}
