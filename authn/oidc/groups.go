package oidc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"sallyport/authn"
	"sallyport/authn/remote"
)

// maxPages bounds how many answers one question for groups may take: at 100 a page, twice what an identity holds.
const maxPages = 10

// addGroups asks the configured endpoint for groups that were too many for the token. Until all of them are known they stay
// incomplete, which policies are told; a sign-in does not fail for it.
func (p *Provider) addGroups(ctx context.Context, accessToken string, said *statement) {
	groups, err := p.askGroups(ctx, accessToken)
	if err != nil {
		p.log.Warn("a person's groups are not known in full", "provider", p.cfg.Name, "error", err)
		return
	}
	told, unread := p.listed(said.claims)
	said.groups, said.groupsIncomplete = append(told, groups...), unread
}

func (p *Provider) askGroups(ctx context.Context, accessToken string) ([]string, error) {
	first, err := url.Parse(p.cfg.GroupsEndpoint)
	if err != nil {
		return nil, errors.New("groups_endpoint is no URL")
	}
	var all []string
	for at, pages := first, 0; at != nil; pages++ {
		if pages == maxPages || len(all) > authn.MaxGroups {
			return nil, errors.New("the groups have no end")
		}
		body, err := p.groupsPage(ctx, at, accessToken)
		if err != nil {
			return nil, err
		}
		groups, next, err := readGroups(body)
		if err != nil {
			return nil, err
		}
		all = append(all, groups...)
		if at, err = nextPage(first, next); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// groupsPage asks for one page. Microsoft Graph's getMemberObjects and getMemberGroups are actions: they are POSTed to.
func (p *Provider) groupsPage(ctx context.Context, at *url.URL, accessToken string) ([]byte, error) {
	method, body := http.MethodGet, ""
	if strings.HasSuffix(at.Path, "/getMemberObjects") || strings.HasSuffix(at.Path, "/getMemberGroups") {
		method, body = http.MethodPost, `{"securityEnabledOnly":false}`
	}
	req, err := http.NewRequestWithContext(ctx, method, at.String(), strings.NewReader(body))
	if err != nil {
		return nil, errors.New("groups_endpoint is no URL")
	}
	req.Header.Set("Authorization", "Bearer "+accessToken)
	req.Header.Set("Accept", "application/json")
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := p.client.Do(req)
	if call, ok := errors.AsType[*url.Error](err); ok {
		return nil, fmt.Errorf("asking for groups: %w", call.Err)
	}
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("groups_endpoint answered %d", resp.StatusCode)
	}
	return io.ReadAll(io.LimitReader(resp.Body, remote.MaxAnswer+1))
}

// readGroups reads a list of groups, or an object that holds one as "value" or "groups". An element is a text or, as Graph
// lists directory objects, an object with an id. What it does not understand is an error: a list must not become shorter by
// being read.
func readGroups(body []byte) (groups []string, next string, err error) {
	var list []json.RawMessage
	if json.Unmarshal(body, &list) != nil {
		var page map[string]any
		if err := exact(&page).UnmarshalJSON(body); err != nil {
			return nil, "", errors.New("groups_endpoint answered no list")
		}
		return readPage(page)
	}
	var wrapped map[string]any
	if err := exact(&wrapped).UnmarshalJSON(append(append([]byte(`{"value":`), body...), '}')); err != nil {
		return nil, "", errors.New("groups_endpoint answered no list")
	}
	return readPage(wrapped)
}

func readPage(page map[string]any) (groups []string, next string, err error) {
	list, ok := page["value"].([]any)
	if !ok {
		list, ok = page["groups"].([]any)
	}
	if !ok {
		return nil, "", errors.New("groups_endpoint answered no list")
	}
	for _, element := range list {
		if object, isObject := element.(map[string]any); isObject {
			element = object["id"]
		}
		group, isText := element.(string)
		if !isText || group == "" {
			return nil, "", errors.New("groups_endpoint listed what is no group")
		}
		groups = append(groups, group)
	}
	link, more := page["@odata.nextLink"]
	if next, ok = link.(string); more && !ok {
		return nil, "", errors.New("groups_endpoint names a next page that is no text")
	}
	return groups, next, nil
}

// nextPage is where the next page is; nil when there is none. The access token goes to the configured host and no other.
func nextPage(first *url.URL, next string) (*url.URL, error) {
	if next == "" {
		return nil, nil
	}
	at, err := url.Parse(next)
	if err != nil || at.Scheme != first.Scheme || at.Host != first.Host || at.User != nil {
		return nil, errors.New("groups_endpoint names a next page on another host")
	}
	return at, nil
}
