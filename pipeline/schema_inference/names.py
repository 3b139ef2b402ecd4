"""
What names of columns say: patterns of the roles, in seven languages, for names in one spelling.

Patterns fit names as `normalised` writes them. Among several columns the one that fits the earliest pattern is taken.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

from pipeline.config.consistency import SYSTEM_COLUMNS
from pipeline.config.sections import COLUMN

UMLAUTS = str.maketrans(
    {
        "ä": "ae",
        "ö": "oe",
        "ü": "ue",
        "Ä": "Ae",
        "Ö": "Oe",
        "Ü": "Ue",
        "ß": "ss",
        "ø": "o",
        "æ": "ae",
        "ł": "l",
    }
)
# English, German, French, Spanish, Italian, Dutch, Portuguese
_PAYMENT = (
    "(transactions?|txn|tx|trans|trx|payments?|charge|event|transaktions?|zahlungs?|buchungs?|umsatz|operation|paiement"
    "|transaccion|operacion|pago|transazione|operazione|pagamento|transactie|betaling|transacao|operacao)"
)
_NUMBER = "(ref|reference|referenz|referencia|riferimento|referentie|number|nummer|num|no|nr|numero|key|uuid|hash|kennung)"
_AMOUNT = "(amount|amt|betrag|montant|importe|monto|importo|bedrag|valor|quantia)"
_DATE = (
    "(date_?time|timestamp|time|date|ts|dt|datum|zeit|zeitpunkt|zeitstempel|tag|uhrzeit|fecha|data|jour|tijd)"
)
ID = (
    rf"{_PAYMENT}_?id|id_((de|di|da)_)?(la_)?{_PAYMENT}",
    r"id|uuid|guid|psp_reference|identifiant|identificador|identificativo|kennung",
    rf"({_PAYMENT}|order|auftrags?|bestell|beleg)_?({_NUMBER}|id)|{_NUMBER}_((de|di|da)_)?(la_)?{_PAYMENT}",
    rf"{_NUMBER}|volgnummer|end_to_end_(id|ref|reference|referenz)",
)
ORDER = (
    *ID,
    r"(order|auftrag|bestellung|bestell|commande|pedido|ordine)(_?(id|name|number|no|nr|nummer))?|name|invoice(_?(id|no))?",
)
EVENT_TIME = (
    r"event_?time",
    rf"{_PAYMENT}_?{_DATE}(_.*)?|{_DATE}_((de|di|da)_)?(la_|l_)?{_PAYMENT}(_.*)?",
    r"timestamp|date_?time|ts|zeitstempel|zeitpunkt|datum_?uhrzeit|date_?heure|fecha_?hora|data_?e?_?h?ora",
    r"buchungstag|buchung|.*creat.*|.*erstell.*",
    rf"{_DATE}(_utc|_gmt)?|step|dia",
    r"valuta.*|wertstellung.*|value_?date.*|.*valeur.*|fecha_valor",
    r".*(time|zeit).*",
    r".*(date|datum|fecha).*",
)
NOT_EVENT_TIME = re.compile(
    r"birth|dob|geburt|naissance|nacimiento|expir|ablauf|valid|updat|modif|deliver|ship|(^|_)due(_|$)|signup|regist"
    r"|(customer|client|member|kunde)_?since|since_(date|year)|opened|(first|last|previous)_"
)
TIME_OF_DAY = (rf"({_PAYMENT}_)?(time|time_of_day|uhrzeit|zeit|heure|hora|ora|tijd)(_utc)?",)
AMOUNT = (
    rf"({_PAYMENT}_)?{_AMOUNT}((_in)?_[a-z]{{3}}|_in|_paid|_minor|_cents?)?|{_PAYMENT}{_AMOUNT}",
    r"(grand_?)?total(_(price|paid|sum|amount))?|gesamt(betrag|summe|preis)|gross(_amount)?|brutto(betrag)?|umsatz|summe",
    rf".*{_AMOUNT}.*",
    r"value|price|sum|paid|preis|prix|precio|prezzo|prijs|preco|importo_totale|cost",
)
NOT_AMOUNT = re.compile(
    r"balance|saldo|solde|percent|prozent|latitude|longitude|discount|rabatt|gebuehr|steuer|shipping|versand"
    r"|(^|_)(fees?|tax(es)?|vat|mwst|rate|kurs|pct|lat|long|lon|lng|age|alter|id|tips?|score|limit|count|qty|quantity|distance"
    r"|exchange|zip|plz|frais|impot|taxe|comision|commissione|commission)(_|$)"
)
LESSER_AMOUNT = re.compile(
    r"convert|subtotal|presentment|settle|local|foreign|original|captured|authori|(^|_)(net|netto|base)(_|$)"
)
CURRENCY = (
    r"currency(_code)?|ccy|waehrung|devise|moneda|divisa|moeda|munt(soort)?|valuta",
    r".*(currency|curr|ccy|waehrung|devise|moneda|moeda).*",
)
KIND = (
    r"kind|type|art|tipo|soort|vorgang",
    rf"({_PAYMENT}|record|event)_?(type|kind|art|code)|(type|tipo|art)_((de|di|da)_)?{_PAYMENT}|buchungstext",
)
ORIGINAL = (r".*(original|parent|refund_of|refunded|reversed|related|linked|ursprung|urspruenglich).*",)
LABEL = (
    r"(is|tx)_?fraud|fraud(ulent)?(_?(flag|label|ind|indicator|status|result|verdict|type))?",
    r"(ist_?)?betrug(s(fall|kennzeichen|flag))?|((es|est|e|is)_)?(fraude|frode|fraudulento|fraudulenta|fraudolenta|frauduleux)",
    r"class|label|target|klasse|etiqueta|etichetta|etiquette|truth",
)
DISPUTE = (  # columns that say which payments were disputed, and why
    r"(is_|has_|ist_|hat_)?(chargeback|charge_back|disputed?|rueckbuchung|rueckbelastung|litige|contestation|contestazione|contracargo|contestacao"
    r"|terugboeking|betwisting)(_?(flag|ind|indicator|kennzeichen))?",
    r"(chargeback|charge_back|dispute)_?(reason|type|category|status|result|outcome)(_.*)?",
)
_DISPUTED = (  # what a label follows from, in any of the languages
    "(label(led)?|fraude?|frode|betrugs?|(charge|pay)_?back|cb|disputed?|disputa|litige|contestation|contestazione|contestacao|contracargo"
    "|rueckbuchungs?|rueckgebucht|rueckbelastungs?|ruecklastschrift|reklamations?|reklamiert|streitfall|impaye|reclamo|reclamacion|storno"
    "|terugboeking|terugbetwisting|betwisting|geschil|estorno)"
)
_REPORTED = (
    "(known|reported|confirmed|created|opened|received|flagged|gemeldet|bestaetigt|erkannt|signalee?|confirmee?|declaree?"
    "|reportad[ao]|confirmad[ao]|segnalat[ao]|confermat[ao]|gemeld|bevestigd)"
)
_WHEN = f"({_DATE}|at|on|am|um|le|el|il|op|em)"
KNOWN_AT = (
    rf"{_DISPUTED}_?{_REPORTED}?_?{_WHEN}(_.*)?|{_REPORTED}_?{_WHEN}(_.*)?",
    rf"{_DATE}_((of|de|du|di|da|do|del|della|van|der)_)?(la_|le_|l_|el_|il_|het_)?{_DISPUTED}(_.*)?",
)
KNOWN_LATER = re.compile(
    r"fraud|betrug|frode|chargeback|charge_back|disput|investigat|report(ed|ing)|refund|revers|outcome|payout|settle"
    r"|review|verdict|resolved|(?<!screen_)(?<!display_)resolution|(^|_)(case|scenario|captured?|available_on|label|after|afterwards|closing|ending)(_|$)"
    r"|represent|arbitration|recover|write_?off|newbalance|new_balance|balance_(after|new)|saldo_(nach|after)"
    r"|ruecklast|rueckbuch|erstatt|storn|rembours|litige|impaye|contest|reembols|devol|contracargo|rimbors|terugbetal|estorno"
    # what becomes of an order; how, where and for how much it is to be sent is known with it
    r"|fulfil\w*(?<!method)(?<!type)(?<!service)(?<!option)$|shipped|dispatched|delivered|(^|_)tracking_?(id|no|nr|number|code|url|link|company)(_|$)"
    r"|(^|_)(shipping|shipment|delivery|dispatch|return|liefer|versand)_?(status|confirm\w*|(date_?)?time|date|datum|timestamp|at|on)(_utc)?$"
    r"|(^|_)returned(_|$)|(^|_)is_return(_|$)|(^|_)returns?_(reason|code|amount|flag|qty|quantity|id|no|number)(_|$)"
    r"|(^|_)closed(_(at|on|date|time|by|reason))?$|cancel\w*(?<!policy)(?<!terms)(?<!insurance)$|canceled|cancelled"
    r"|geliefert|zugestellt|verschickt|versandt|versendet|retourniert|(^|_)retouren?(_|$)|ruecksend|rueckgabe|abgeschlossen|annul(e|at|ier|ler)|(^|_)livree?_le$"
    r"|(^|_)expediee?(_|$)|(statut|date)_(de_)?livraison|livraison_statut|retourne|enviad[ao]|entregad[ao]|entregue|cancelad[ao]|anulad[ao]|liquidad[ao]"
    r"|spedit[ao]|consegnat[ao]|verzonden|geleverd|bezorgd|geannuleerd"
)
LATER_VALUE = re.compile(
    r"refunded|reversed|charged?_?back|disputed|fraud|settled|fulfilled|shipped|delivered|returned|geliefert|zugestellt|erstattet|rembours|reembols|rimbors|contestad"
)
STATUS = (
    rf"({_PAYMENT}_|order_|auth(ori[sz]ation)?_|acquirer_|issuer_|gateway_|processor_|financial_)?(status|state|result|response|zustand|ergebnis|statut|etat|resultat|estado"
    r"|resultado|stato|esito|risultato|situacao)(_code|_text)?",
)
INITIATOR = (  # columns that say who initiated a payment, or whether it recurs
    rf"initiated_by|initiator|shopper_?interaction|({_PAYMENT}_)?initiat(or|ion)(_type)?|recurring_?(processing_?model|type|indicator)",
    rf"(is_)?(mit|merchant_initiated|recurring|subscription|retry)(_?({_PAYMENT}|flag|ind|indicator))?",
    rf"({_PAYMENT}|processing|cof|stored_credential)_?(type|usage|reason)",
)
SEQUENCE = re.compile(
    r"(unnamed(_\d+)?|index|idx|row(_?(id|no|nr|num|number))?|line(_?(no|nr|number))?|zeile|lfd_?nr|)"
)
FREE_TEXT = re.compile(
    r".*(description|verwendungszweck|buchungstext|memo|note|comment|remark|libelle|concepto|descripcion|causale|descrizione"
    r"|omschrijving|descricao|kommentar|message|subject).*"
)
CATEGORY = re.compile(
    r"(.*_)?(country(_code)?|land|pays|pais|paese|state|region|bundesland|gender|geschlecht|category|kategorie|mcc|language"
    r"|browser|os|brand|network|scheme|method|channel|product_?cd)"
)
CODE = re.compile(  # whole numbers that are names of something
    r"(.*_)?(zip(_?code)?|postal(_?code)?|post_?code|plz|bin|iin|last_?(4|four)|mcc|phone|tel|telefon|code)"
)
_ENTITY_WORDS_TEXT = """
    customer client shopper buyer consumer user account acct card pan cc merchant shop store terminal
    pos device ip email e_mail mail phone mobile iban payer payee beneficiary sender receiver recipient
    member holder employee counterparty originator name_orig name_dest orig dest kunde kunden konto
    konten karte karten haendler empfaenger auftraggeber zahlungspflichtiger beguenstigter geraet
    filiale gegenkonto compte carte commercant marchand beneficiaire cliente cuenta tarjeta comercio
    beneficiario ordenante conto carta esercente klant rekening tegenrekening kaart winkel conta cartao
    loja destinatario
"""
ENTITY_WORDS = _ENTITY_WORDS_TEXT.split()
ENTITY_SUFFIX = r"(_?(id|no|nr|num|nummer|numero|number|key|ref|hash|uid|uuid|token|address|addr|adresse|fingerprint|iban))"
_ENTITY = re.compile(
    rf"(.*_)?(?P<word>{'|'.join(ENTITY_WORDS)})({ENTITY_SUFFIX[1:-1]}|_?\d)?|id_((de|di)_)?(?P<of>{'|'.join(ENTITY_WORDS)})"
)
_PAYER_WORDS_TEXT = """
    customer client shopper buyer consumer user account acct card pan cc iban payer sender member holder
    name_orig orig kunde kunden konto konten karte karten auftraggeber zahlungspflichtiger compte carte
    cliente cuenta tarjeta ordenante conto carta klant rekening kaart conta cartao
"""
PAYER_WORDS = frozenset(_PAYER_WORDS_TEXT.split())
ID_WORD = re.compile(r".*_(id|uid|uuid|key|hash)")
ID_SUFFIX = re.compile(rf".*{ENTITY_SUFFIX}|id_.*")


_RESERVED_TEXT = """
    all alter analyze and any as asc between by case cast check collate column commit constraint create
    cross current_date current_time current_timestamp current_user default delete desc distinct do drop
    else end except exists false fetch for foreign from full grant group having if in index inner insert
    intersect into is isnull join leading left like limit natural not notnull null offset on only or
    order outer primary references returning right select session_user set some table then to trailing
    transaction true union unique update user using values verbose when where window with
"""
RESERVED = frozenset(
    _RESERVED_TEXT.split()
)  # words of SQL that need quotes as names, in SQLite or in Postgres
NAME_MAX = 60  # characters, so that a number can follow


class Named(Protocol):
    """Anything with a name."""

    @property
    def name(self) -> str:
        """The name."""


T = TypeVar("T", bound=Named)


def normalised(name: str) -> str:
    """Return a name in lower case with underscores: txnAmount and "Txn Amount" are txn_amount, "Währung" is waehrung."""
    letters = unicodedata.normalize("NFKD", unicodedata.normalize("NFC", name).translate(UMLAUTS))
    plain = "".join(letter for letter in letters if not unicodedata.combining(letter))
    separated = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", plain)
    return re.sub(r"[^a-z0-9]+", "_", separated.lower()).strip("_")


def first_named(columns: Sequence[T], patterns: Sequence[str]) -> T | None:
    """
    Return the first column whose whole name fits the earliest pattern that any name fits.

    Where none does, of nested columns the last part of the name counts: `risk.is_fraud` is named is_fraud.
    """
    for spelled in (normalised, _last_part):
        for pattern in patterns:
            for column in columns:
                if re.fullmatch(pattern, spelled(column.name)):
                    return column
    return None


def fits(name: str, patterns: Sequence[str]) -> bool:
    """Whether a name, or its last part behind a point, fits one of the patterns."""
    return any(
        re.fullmatch(pattern, spelled)
        for pattern in patterns
        for spelled in (normalised(name), _last_part(name))
    )


def _last_part(name: str) -> str:
    """The last part of a nested name in one spelling, or all of one that names an entity: `customer.id` is no id of a payment."""
    return normalised(name if entity_rank(name) is not None else name.rpartition(".")[2])


def entity_rank(name: str) -> int | None:
    """How well a name says that it is that of a customer, card, shop and the like: 0 is best; None if it does not."""
    word = _entity_word(name)
    return ENTITY_WORDS.index(word) if word else None


def is_payer(name: str) -> bool:
    """Whether a name says that it is that of who pays."""
    return _entity_word(name) in PAYER_WORDS


def _entity_word(name: str) -> str:
    match = _ENTITY.fullmatch(normalised(name))
    return (match["word"] or match["of"]) if match else ""


def field_names(fields: Sequence[str], roles: Iterable[str], columns: Sequence[str]) -> dict[str, str]:
    """
    Return new names for the fields whose names in the file are none for a column of the database.

    Parameters
    ----------
    roles
        Columns with other roles, whose names no field may have.
    columns
        All columns of the file, whose names no other column may get.
    """
    taken = {name.lower() for name in roles} | SYSTEM_COLUMNS | RESERVED
    kept = set[str]()
    for name in fields:
        if COLUMN.fullmatch(name) and name.lower() not in taken | kept:
            kept.add(name.lower())
    renamed = dict[str, str]()
    taken |= {name.lower() for name in columns}
    for name in fields:
        if name.lower() in kept and COLUMN.fullmatch(name):
            kept.remove(name.lower())  # a second one that differs in case gets a new name
            continue
        renamed[name] = new = _new_name(name, columns.index(name) + 1, taken)
        taken.add(new)
    return renamed


def _new_name(name: str, place: int, taken: set[str]) -> str:
    plain = normalised(name)[:NAME_MAX]
    if not re.search("[a-z]", plain):
        plain = f"column_{place}"
    elif plain[0].isdigit():
        plain = f"column_{plain}"[:NAME_MAX]
    if plain in RESERVED:
        plain = f"{plain}_field"
    new, number = plain, 2
    while new in taken:
        new, number = f"{plain}_{number}", number + 1
    return new


def known_later(name: str) -> bool:
    """Whether a column is known only after the payment, by its name."""
    return KNOWN_LATER.search(normalised(name)) is not None
