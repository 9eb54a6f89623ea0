"""Define the formats of tokens, one row for each kind, for the matcher in tokens.py.

Columns, separated by "|":

    issuer    issuer of the token; the kind is the issuer's name in lower case with "-token"
    prefixes  beginning of the token; several alternatives are separated by spaces
    rest      parts after the prefix: an alphabet and a length (hex32, word20-40, alnum16+),
              "uuid", or a literal text
    near      words; one of them must precede the token on the same line; for tokens whose format is
              too common
    source    where the format is documented: the issuer's page, or a rule of gitleaks,
              detect-secrets or trufflehog that states the same facts. "crc32": the last six
              characters of the token are the CRC-32 of its middle part in base 62. "observed": the
              format is not documented; the prefix is known from the issuer's examples.

Lengths are given a little wider than documented where sources disagree.
"""

from __future__ import annotations

from typing import NamedTuple

ALPHABETS = {
    "digit": "0-9",
    "hex": "0-9a-f",
    "anyhex": "0-9A-Fa-f",
    "HEX": "0-9A-F",
    "alpha": "A-Za-z",
    "lower": "0-9a-z",
    "upper": "0-9A-Z",
    "alnum": "0-9A-Za-z",
    "word": "0-9A-Za-z_-",
    "base64": "0-9A-Za-z+/",
    "text": "0-9A-Za-z_.=+/-",
    "bech32": "02-9AC-HJ-NP-Z",
}

_GITHUB = "https://docs.github.com/authentication/keeping-your-account-and-data-secure/about-authentication-to-github"
_TABLE = f"""
1Password     | ops_eyJ                    | base64200+                  |            | gitleaks 1password-service-account-token
1Password     | A3-                        | upper6 - upper6 - upper5 - upper5 - upper5 - upper5 | | gitleaks 1password-secret-key
Adafruit      | aio_                       | alnum28                     |            | observed
Adobe         | p8e-                       | lower32                     |            | gitleaks adobe-client-secret
age           | AGE-SECRET-KEY-1           | bech3258                    |            | https://age-encryption.org/v1
Airtable      | pat                        | alnum14 . hex64             |            | gitleaks airtable-personnal-access-token
Algolia       |                            | hex32                       | algolia    | gitleaks algolia-api-key
Alibaba       | LTAI                       | alnum12-24                  |            | gitleaks alibaba-access-key-id
Anaconda      | tk-                        | uuid                        |            | observed
Anthropic     | sk-ant-                    | lower3-12 - word80+         |            | gitleaks anthropic-api-key
Apify         | apify_api_                 | alnum36                     |            | trufflehog apify
Artifactory   | AKCp                       | alnum65-75                  |            | gitleaks artifactory-api-key
Artifactory   | cmVmdGtu                   | alnum56                     |            | gitleaks artifactory-reference-token
Asana         |                            | alnum32                     | asana      | trufflehog asanapersonalaccesstoken
Atlassian     | ATATT3 ATCTT3              | text100+                    |            | gitleaks atlassian-api-token
AWS           | AKIA ASIA                  | upper16                     |            | https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html
AWS           |                            | base6440                    | secret_access_key secretaccesskey aws_secret secret_key secret.key | detect-secrets AWSKeyDetector
AWS           | IQoJb3JpZ2luX2Vj FwoGZXIvYXdz FQoGZXIvYXdz | base64100+  |            | https://docs.aws.amazon.com/STS/latest/APIReference/API_GetSessionToken.html
AWS           | ABSK                       | base64100-280               |            | gitleaks aws-amazon-bedrock-api-key-long-lived
AWS           | bedrock-api-key-           | text60+                     |            | gitleaks aws-amazon-bedrock-api-key-short-lived
Axiom         | xaat- xapt-                | uuid                        |            | observed
Azure         |                            | base6486 ==                 | accountkey account_key storage_key access_key key | detect-secrets AzureStorageKeyDetector
Azure         |                            | base6443 =                  | sharedaccesskey | https://learn.microsoft.com/azure/service-bus-messaging/service-bus-sas
Azure         |                            | word3 Q~ word31-34          |            | gitleaks azure-ad-client-secret
Azure         |                            | alnum76 AZDO alnum4         |            | https://learn.microsoft.com/purview/sit-defn-azure-devops-personal-access-token
Azure         |                            | alnum60-80 JQQJ99 alnum20-40 |           | https://learn.microsoft.com/purview/sit-defn-azure-cognitive-service-key
Azure         |                            | lower52                     | azure devops | trufflehog azuredevopspersonalaccesstoken
Azure         |                            | hex32                       | openai.azure azureopenai azure_openai ocp-apim cognitive | trufflehog azure_openai
Beamer        | b_                         | word44                      | beamer     | gitleaks beamer-api-token
Bitbucket     | ATBB                       | alnum28-40                  |            | trufflehog bitbucketapppassword
Brevo         | xkeysib- xsmtpsib-         | hex64 - alnum16             |            | gitleaks sendinblue-api-token
Buildkite     | bkua_ bkat_ bkct_          | lower40                     |            | trufflehog buildkite
Cerebras      | csk-                       | lower48                     |            | observed
CircleCI      | CCIPAT_ CCIPRJ_            | alnum22 _ anyhex40          |            | trufflehog circleci
CircleCI      |                            | hex40                       | circleci circle_ci circle-token | trufflehog circleci
Clojars       | CLOJARS_                   | hex60                       |            | gitleaks clojars-api-token
ClickHouse    | 4b1d                       | alnum38                     |            | gitleaks clickhouse-cloud-api-secret-key
Cloudflare    | cfk_ cfut_ cfat_           | alnum40-60                  |            | https://developers.cloudflare.com/fundamentals/api/get-started/token-formats
Cloudflare    | v1.0-                      | hex24 - hex146              |            | gitleaks cloudflare-origin-ca-key
Cloudflare    |                            | word40                      | cloudflare cf_api | gitleaks cloudflare-api-key
Cloudflare    |                            | hex37                       | cloudflare cf_api | gitleaks cloudflare-global-api-key
Codecov       |                            | uuid                        | codecov    | observed
Cohere        |                            | alnum40                     | cohere co_api | gitleaks cohere-api-token
Comet         |                            | alnum25                     | comet      | observed
Confluent     | cflt                       | base6460                    |            | observed
Confluent     |                            | base6464                    | confluent sasl | gitleaks confluent-secret-key
Contentful    | CFPAT-                     | word43                      |            | trufflehog contentfulpersonalaccesstoken
crates.io     | cio                        | alnum32                     |            | observed
Dagster       |                            | hex32                       | dagster_cloud | observed
Databricks    | dapi dkea dose             | hex32                       |            | gitleaks databricks-api-token
Datadog       |                            | hex32                       | datadog dd_api dd-api | gitleaks datadog-access-token
Datadog       |                            | hex40                       | datadog dd_app dd-app | gitleaks datadog-access-token
DeepSeek      | sk-                        | hex32                       |            | trufflehog deepseek
Defined       | dnkey-                     | word26 - word52             |            | gitleaks defined-networking-api-token
Deno          | ddp_ ddw_                  | alnum36                     |            | trufflehog deno
DigitalOcean  | dop_v1_ doo_v1_ dor_v1_    | hex64                       |            | gitleaks digitalocean-pat
Discord       | MD MT Mj Mz ND NT Nj Nz OD OT | word22-26 . word6 . word27-40 |       | detect-secrets DiscordBotTokenDetector
Discord       | discord.com/api/webhooks/ discordapp.com/api/webhooks/ | digit17-20 / word60-80 | | https://discord.com/developers/docs/resources/webhook
Docker        | dckr_pat_ dckr_oat_        | word20+                     |            | https://docs.docker.com/security/access-tokens/
Doppler       | dp.pt. dp.ct. dp.sa. dp.scim. dp.audit. | alnum40-44     |            | trufflehog doppler
Doppler       | dp.st.                     | text40-80                   |            | trufflehog doppler
Dropbox       | sl.                        | text130+                    |            | trufflehog dropbox
Duffel        | duffel_test_ duffel_live_  | text43                      |            | gitleaks duffel-api-token
Dynatrace     | dt0c01. dt0s01. dt0s02.    | alnum24 . alnum64           |            | gitleaks dynatrace-api-token
EasyPost      | EZAK EZTK                  | alnum54                     |            | gitleaks easypost-api-token
ElevenLabs    | sk_                        | hex48                       |            | trufflehog elevenlabs
Facebook      | EAA                        | alnum100-400                |            | gitleaks facebook-page-access-token
Fastly        |                            | word32                      | fastly     | gitleaks fastly-api-token
Figma         | figd_ figu_ figo_          | word40                      |            | trufflehog figmapersonalaccesstoken
Firecrawl     | fc-                        | hex32                       |            | observed
Fireworks     | fw_                        | alnum22-26                  |            | observed
Flutterwave   | FLWSECK- FLWSECK_TEST-     | lower32 -X                  |            | gitleaks flutterwave-secret-key
Fly.io        | fo1_                       | word43                      |            | gitleaks flyio-access-token
Fly.io        | fm1r_ fm1a_ fm2_           | base64100+                  |            | gitleaks flyio-access-token
Frame.io      | fio-u-                     | word64                      |            | gitleaks frameio-api-token
GitHub        | ghp_ gho_ ghu_ ghs_ ghr_   | alnum36-251                 |            | {_GITHUB} crc32
GitHub        | github_pat_                | word60-255                  |            | {_GITHUB}
GitHub        | ghs_                       | digit1-12 _ text100+        |            | {_GITHUB}
GitLab        | glpat- gldt- glrt- glft- glffct- glsoat- glimt- glagent- gloas- glcbt- glwt- | text20-320 | | https://docs.gitlab.com/security/tokens/
GitLab        | glptt-                     | hex40                       |            | gitleaks gitlab-ptt
GitLab        | GR1348941                  | word20                      |            | gitleaks gitlab-rrt
GitLab        | _gitlab_session=           | hex32                       |            | gitleaks gitlab-session-cookie
GoCardless    | live_                      | text40                      | gocardless | gitleaks gocardless-api-token
Google        | AIza                       | word35                      |            | gitleaks gcp-api-key
Google        | GOCSPX-                    | word28                      |            | observed
Google        | ya29.                      | text30+                     |            | observed
Google        | 1//0                       | word30+                     |            | observed
Google        |                            | base6440                    | goog1e     | https://cloud.google.com/storage/docs/authentication/hmackeys
Grafana       | glsa_                      | alnum32 _ anyhex8           |            | gitleaks grafana-service-account-token
Grafana       | glc_                       | base6432-400                |            | gitleaks grafana-cloud-api-token
Grafana       | eyJrIjoi                   | base6470-400                |            | gitleaks grafana-api-key
Groq          | gsk_                       | alnum48-56                  |            | trufflehog groq
Harness       | pat. sat.                  | word22 . alnum24 . alnum20  |            | gitleaks harness-api-key
Heroku        | HRKU-                      | word36-64                   |            | gitleaks heroku-api-key-v2
Heroku        |                            | uuid                        | heroku     | gitleaks heroku-api-key
HubSpot       | pat-na1- pat-na2- pat-eu1- pat-ap1- | uuid               |            | observed
HuggingFace   | hf_ api_org_               | alnum34-40                  |            | gitleaks huggingface-access-token
IBM           |                            | word44                      | ibm bluemix | detect-secrets IbmCloudIamDetector
Infracost     | ico-                       | alnum32                     |            | gitleaks infracost-api-token
Intra42       | s-s4t2ud- s-s4t2af-        | hex64                       |            | gitleaks intra42-client-secret
JFrog         |                            | alnum64-73                  | jfrog artifactory | gitleaks jfrog-api-key
Jina          | jina_                      | word60                      |            | observed
JSON web      | eyJ                        | word15+ .eyJ word15+ . word20+ |         | https://www.rfc-editor.org/rfc/rfc7519
Kaggle        | KGAT_                      | lower32                     |            | observed
Kaggle        |                            | hex32                       | kaggle     | observed
Langfuse      | sk-lf-                     | uuid                        |            | trufflehog langfuse
LangSmith     | lsv2_pt_ lsv2_sk_          | hex32 _ hex10               |            | trufflehog langsmith
LangSmith     | ls__                       | hex32                       |            | observed
LaunchDarkly  | sdk- api-                  | uuid                        |            | trufflehog launchdarkly
Linear        | lin_api_ lin_oauth_        | alnum40-64                  |            | gitleaks linear-api-key
Lob           | live_ test_                | hex35                       | lob        | gitleaks lob-api-key
Logfire       | pylf_v1_                   | lower2 _ alnum43            |            | observed
Mailchimp     |                            | hex32 -us digit1-2          |            | detect-secrets MailchimpDetector
Mailgun       | key-                       | hex32                       |            | gitleaks mailgun-private-api-token
Mailgun       |                            | hex32 - hex8 - hex8         |            | gitleaks mailgun-signing-key
Mapbox        | sk.eyJ                     | word40-240 . word20-30      |            | trufflehog mapbox
Mattermost    |                            | lower26                     | mattermost | gitleaks mattermost-access-token
MaxMind       |                            | alnum6 _ alnum29 _mmk       |            | gitleaks maxmind-license-key
MessageBird   |                            | alnum25                     | messagebird | gitleaks messagebird-api-token
Microsoft     |                            | word1-60 .webhook.office.com/webhookb2/ uuid @ uuid /IncomingWebhook/ hex32 / uuid | | gitleaks microsoft-teams-webhook
Mistral       |                            | alnum32                     | mistral    | observed
Modal         | as-                        | alnum22                     |            | observed
Neon          | napi_                      | lower60-70                  |            | observed
Neptune       | eyJhcGlfYWRkcmVzcyI6       | base6440+                   |            | observed
Netlify       | nfp_ nfc_ nfo_ nfb_ nfu_   | alnum36                     |            | trufflehog netlify
Netlify       |                            | word40-46                   | netlify    | trufflehog netlify
New Relic     | NRAK- NRAL- NRII- NRIQ- NRRA- | word27-42                |            | gitleaks new-relic-user-api-key
New Relic     | NRJS-                      | hex19                       |            | gitleaks new-relic-browser-api-token
New Relic     |                            | lower36 NRAL                |            | https://docs.newrelic.com/docs/apis/intro-apis/new-relic-api-keys
ngrok         |                            | alnum27 _ digit1 alnum20    | ngrok      | trufflehog ngrok
Notion        | ntn_                       | digit11 alnum35             |            | gitleaks notion-api-token
Notion        | secret_                    | alnum43                     |            | trufflehog notion
npm           | npm_                       | alnum36                     |            | gitleaks npm-access-token
NuGet         | oy2                        | lower43                     |            | observed
NVIDIA        | nvapi-                     | word60-70                   |            | trufflehog nvapi
Octopus       | API-                       | upper26                     |            | gitleaks octopus-deploy-api-key
Okta          | 00                         | word40                      | okta ssws  | gitleaks okta-access-token
OpenAI        | sk-                        | word20-100 T3BlbkFJ word20-100 |         | gitleaks openai-api-key
OpenRouter    | sk-or-v1-                  | hex64                       |            | trufflehog openrouter
OpenShift     | sha256~                    | word43                      |            | gitleaks openshift-user-token
PagerDuty     |                            | text20                      | pagerduty pd_api | observed
Perplexity    | pplx-                      | alnum48-56                  |            | gitleaks perplexity-api-key
Pinecone      | pcsk_                      | alnum5-6 _ alnum60-66       |            | trufflehog pinecone
Plaid         | access-sandbox- access-development- access-production- | uuid |         | gitleaks plaid-api-token
PlanetScale   | pscale_tkn_ pscale_pw_ pscale_oauth_ | text32-64         |            | gitleaks planetscale-api-token
PostHog       | phx_ phs_                  | alnum32-50                  |            | trufflehog posthog
Postman       | PMAK-                      | hex24 - hex34               |            | gitleaks postman-api-token
Prefect       | pnu_ pnb_                  | alnum36                     |            | gitleaks prefect-api-token
Pulumi        | pul-                       | hex40                       |            | gitleaks pulumi-api-token
PyPI          | pypi-AgE                   | word50+                     |            | gitleaks pypi-upload-token
Rancher       |                            | lower54                     | token-     | observed
ReadMe        | rdme_                      | lower70                     |            | gitleaks readme-api-token
Render        | rnd_                       | alnum28-36                  |            | observed
Replicate     | r8_                        | word37                      |            | trufflehog replicate
Resend        | re_                        | alnum8 _ alnum24            |            | observed
Roboflow      | rf_                        | alnum20-40                  | roboflow   | observed
Rootly        | rootly_                    | hex64                       |            | trufflehog rootly
RubyGems      | rubygems_                  | hex48                       |            | gitleaks rubygems-api-token
Scalingo      | tk-us-                     | word48                      |            | gitleaks scalingo-api-token
RunPod        | rpa_                       | alnum40-56                  |            | observed
SendGrid      | SG.                        | word20-24 . word39-50       |            | detect-secrets SendGridDetector
Sentry        | sntrys_eyJ                 | text60+                     |            | gitleaks sentry-org-token
Sentry        | sntryu_                    | hex64                       |            | gitleaks sentry-user-token
Sentry        |                            | hex64                       | sentry     | gitleaks sentry-access-token
SettleMint    | sm_pat_ sm_aat_ sm_sat_    | alnum16                     |            | gitleaks settlemint-personal-access-token
Shippo        | shippo_live_ shippo_test_  | anyhex40                    |            | gitleaks shippo-api-token
Shopify       | shpat_ shpca_ shppa_ shpss_ | anyhex32                   |            | gitleaks shopify-access-token
Slack         | xoxb- xoxp- xoxa- xoxe- xoxo- xoxr- xoxs- xoxc- xoxd- | digit1+ - word18+ | | https://docs.slack.dev/authentication/tokens
Slack         | xoxe.xoxb- xoxe.xoxp-      | digit1 - word100+           |            | gitleaks slack-config-access-token
Slack         | xapp-                      | digit1 - upper8+ - digit8+ - lower40+ |  | gitleaks slack-app-token
Slack         | hooks.slack.com/services/  | upper8+ / upper8+ / alnum20+ |           | trufflehog slackwebhook
Slack         | hooks.slack.com/workflows/ hooks.slack.com/triggers/ | upper8+ / upper8+ / text18+ | | trufflehog slackwebhook
Snyk          | snyk_uat. snyk_sat.        | text40+                     |            | observed
Snyk          |                            | uuid                        | snyk       | gitleaks snyk-api-token
SonarQube     | squ_ sqp_ sqa_             | hex40                       |            | gitleaks sonar-api-token
SonarQube     |                            | hex40                       | sonar      | gitleaks sonar-api-token
Sourcegraph   | sgp_                       | anyhex40                    |            | gitleaks sourcegraph-access-token
Sourcegraph   | sgp_                       | alnum5-16 _ anyhex40        |            | gitleaks sourcegraph-access-token
Square        | EAAA                       | word60                      |            | gitleaks square-access-token
Square        | sq0atp- sq0csp- sq0idp-    | word22-60                   |            | gitleaks square-access-token
Stripe        | sk_live_ rk_live_ sk_prod_ rk_prod_ sk_test_ rk_test_ | alnum20-247 | | gitleaks stripe-access-token
Stripe        | whsec_                     | base6432-48                 |            | observed
Supabase      | sbp_                       | lower40                     |            | trufflehog supabasetoken
Supabase      | sb_secret_                 | word22 _ word8              |            | https://supabase.com/docs/guides/api/api-keys
Tailscale     | tskey-api- tskey-auth- tskey-client- tskey-scim- tskey-webhook- | alnum8+ - alnum16+ | | https://tailscale.com/kb/1277/key-prefixes
Tavily        | tvly- tvly-dev- tvly-prod- | alnum28-48                  |            | observed
Telegram      |                            | digit8-10 :AA word32-34     |            | detect-secrets TelegramBotTokenDetector
Tencent       | AKID                       | alnum32                     |            | observed
Terraform     |                            | alnum14 .atlasv1. word60-70 |            | gitleaks hashicorp-tf-api-token
Together      | tgp_v1_                    | word43                      |            | observed
Travis        |                            | alnum22                     | travis     | gitleaks travisci-access-token
Twilio        | SK                         | hex32                       |            | detect-secrets TwilioKeyDetector
Twilio        |                            | hex32                       | twilio auth_token authtoken | https://www.twilio.com/docs/iam/api/authtoken
Typeform      | tfp_                       | text59                      |            | gitleaks typeform-api-token
Vault         | hvs. hvb. hvr.             | word24+                     |            | https://developer.hashicorp.com/vault/docs/concepts/tokens
Vault         | s. b. r.                   | alnum24                     | vault      | https://developer.hashicorp.com/vault/docs/concepts/tokens
Vercel        | vcp_ vci_ vca_ vcr_ vck_   | alnum24-60                  |            | observed
Vercel        |                            | alnum24                     | vercel     | trufflehog vercel
Voyage        | pa-                        | word43                      |            | observed
WandB         | wandb_v1_                  | text40+                     |            | observed
WandB         |                            | hex40                       | wandb      | trufflehog weightsandbiases
xAI           | xai-                       | alnum80                     |            | trufflehog xai
Yandex        | AQVN                       | word35-40                   |            | gitleaks yandex-api-key
Yandex        | YCAJE YCM YCN              | word20-40                   | yandex     | gitleaks yandex-aws-access-token
"""


class TokenFormat(NamedTuple):
    """One row of the table.

    Attributes:
        kind: Name of the rule, such as "github-token".
        issuer: Issuer of the token.
        prefixes: Alternative beginnings of the token.
        rest: Parts after the prefix.
        near: Words of which one must precede the token.
        source: Where the format is documented.
        has_checksum: Whether the issuer documents a CRC-32 at the end of the token.
    """

    kind: str
    issuer: str
    prefixes: tuple[str, ...]
    rest: tuple[str, ...]
    near: tuple[str, ...]
    source: str
    has_checksum: bool


def _read(line: str) -> TokenFormat:
    issuer, prefixes, rest, near, source = (cell.strip() for cell in line.split("|"))
    kind = f"{issuer.lower().replace(' ', '-')}-token"
    page = source.removesuffix(" crc32")
    return TokenFormat(
        kind,
        issuer,
        tuple(prefixes.split()),
        tuple(rest.split()),
        tuple(near.split()),
        page,
        source != page,
    )


FORMATS = tuple(_read(line) for line in _TABLE.strip().splitlines())
