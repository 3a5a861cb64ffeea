// What the arena says, in English and Chinese.
import { spoken } from "./language.js";

const ENGLISH = {
  begin: "Begin", go: "Continue", guidelines: "Guidelines", said: "The conversation", answer: "Answer",
  a: "A is better", b: "B is better", tie: "Tie", bad: "Both bad", next: "Next", back: "Back", comment: "Comment",
  commentHint: "What decided it? (optional)", of: (n, m) => `${n} of ${m}`, practice: (n, m) => `Practice, ${n} of ${m}`,
  practiceFirst: n => `${n} practice item${n > 1 ? "s" : ""} first, which count nowhere.`,
  keyHint: "Everything can be done by the keyboard; the keys stand on the buttons.",
  right: "That is what we would have said.", wrong: "We would have said otherwise.", expected: "Expected",
  thanks: "Thank you!", thanksFor: n => `You have rated ${n} item${n === 1 ? "" : "s"}. All of it is kept; you can close this page.`,
  nothing: "There is nothing to be rated now. All the same, thank you!",
  wait: "Others are rating the last items.", waitHint: "If some are left over they come to you here, by themselves. You may also close the page and open your link again later.",
  changing: "You rated this before; what you choose now counts.",
  ask: "Ask whatever you like", askHint: "Two answers come at once, and you choose the better. Neither tells who wrote it.",
  askOne: "An answer comes, and you rate it.", send: "Ask", waiting: "The answers are being written …",
  retrying: "The server cannot be reached. Your choice is kept here and sent again …",
  unknown_invitation: "This link is no invitation. Please ask who sent it for the whole link.",
  used_invitation: "This invitation is used already, in another browser. Please ask for a new link.",
  no_invitation: "This page is for people who were invited. Please open the link of your invitation.",
  refused: "You cannot rate here", keysScales: "1–9 rate, ↑ ↓ change the scale",
};

const CHINESE = {
  begin: "开始", go: "继续", guidelines: "评分说明", said: "对话", answer: "回答",
  a: "A 更好", b: "B 更好", tie: "平手", bad: "都不好", next: "下一题", back: "返回", comment: "备注",
  commentHint: "是什么决定了您的选择？（可不填）", of: (n, m) => `第 ${n} 题，共 ${m} 题`, practice: (n, m) => `练习 ${n} / ${m}`,
  practiceFirst: n => `先做 ${n} 道练习题，不计入结果。`,
  keyHint: "全部操作都可用键盘完成；按键标在按钮上。",
  right: "与我们的判断一致。", wrong: "我们的判断不同。", expected: "参考判断",
  thanks: "谢谢您！", thanksFor: n => `您已评价 ${n} 题，全部已保存，可以关闭此页。`,
  nothing: "现在没有需要评价的题目。同样感谢您！",
  wait: "其他人正在评价最后几题。", waitHint: "如有剩余，会自动出现在这里。您也可以关闭此页，稍后再打开链接。",
  changing: "您评价过此题；现在的选择将取代之前的。",
  ask: "请随意提问", askHint: "会同时出现两个回答，请选出较好的一个。不会显示是谁写的。",
  askOne: "会出现一个回答，请为它打分。", send: "提问", waiting: "正在生成回答……",
  retrying: "无法连接服务器。您的选择已保留，正在重新发送……",
  unknown_invitation: "此链接不是邀请。请向发送者索取完整的链接。",
  used_invitation: "此邀请已在另一个浏览器中使用。请索取新的链接。",
  no_invitation: "此页面仅供受邀者使用。请打开您的邀请链接。",
  refused: "无法在此评价", keysScales: "1–9 打分，↑ ↓ 换项",
};

export const words = spoken(ENGLISH, CHINESE);
